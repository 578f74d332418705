"""The exact fast path: only the input of the last linear layer is masked.

Behind the mask everything is linear. With features h of target t, label y, weights W, mask m of training example
i and a_cu = (W_cu - W_yu) h_u for each class c other than y, the logits relative to the label's are

    exposed: full_c + sum_u (m_u - keep) a_cu / keep
    flipped: full_c - sum_u (m_u - keep) a_cu / (1 - keep)

so one product of masks and ``a`` serves both sub-networks. Taking the label's logit off leaves one class less
to compute, and taking the mean off the masks leaves the product small: rounding it to bfloat16 costs little, as
``full`` stays in float32. Cross-entropy is ``log(1 + sum_c exp(.))`` and the margin ``-max_c(.)`` of these.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from turnover.attribution.fused import CHUNK, Base, Difference, base_of
from turnover.attribution.scorer import DTYPES, Measure, Precision, spans
from turnover.attribution.targets import Targets
from turnover.batches.outputs import MaskedHead
from turnover.batches.passes import DEFAULT_MEMORY
from turnover.masking.masks import scales


class _Block(NamedTuple):
    """What tiles of a block of targets share."""

    features: Tensor  # float32 [target, units]
    labels: Tensor  # int64 [target]
    others: Tensor  # int64 [classes - 1, target], the classes that are not the label
    base: Base
    factors: Tensor | None  # a_cu [(classes - 1) * target, units], class after class; None: too many to be held


class HeadScorer:
    """Influence where `masked` is the only masked layer of a network, and what it gives is the network's output.

    Args:
        masked: the masked head, proved to give the network's own exposed outputs.
        train_ids, measure, precision: as for `influence`; the loss difference is computed in float32 either way.
        targets: their features and logits are all that is taken of the network.
        fused: compile the loss difference.
    """

    def __init__(
        self,
        masked: MaskedHead,
        train_ids: Tensor,
        targets: Targets,
        measure: Measure,
        precision: Precision,
        fused: bool,
    ) -> None:
        self.masked, self.targets = masked, targets
        self.classes = targets.classes
        self.device = masked.linear.weight.device
        self.dtype = DTYPES[precision]
        units, keep = masked.linear.in_features, masked.dropout.keep
        self.packed = masked.dropout.masks(units).packed(train_ids).to(self.device)
        # Masks hold (1 - centre, -centre), not (1, 0): both exact in bfloat16 for a multiple of 1/256.
        self.centre = round(keep * 256) / 256
        bits = (torch.arange(256).unsqueeze(1) >> torch.arange(8)) & 1
        self.octets = (bits - self.centre).to(self.device, self.dtype)
        self._product = torch.empty(0, dtype=self.dtype, device=self.device)
        self._kept = DEFAULT_MEMORY // 2  # bytes of factors held for a block; larger ones are made anew for every tile
        self.scales = scales(keep)
        self.difference = Difference(measure, *self.scales, fused)

    def prepare(self, columns: slice) -> _Block:
        """Features of the targets, factors a_cu where they may be held, and what their products are added to."""
        keep, y = self.masked.dropout.keep, self.targets.labels[columns].to(self.device)
        features, full = self.targets.head(columns)
        steps = torch.arange(1, self.classes, device=self.device).unsqueeze(1)
        others = (y + steps) % self.classes  # [classes - 1, target]
        logits = full.T.gather(0, others) - full.gather(1, y.unsqueeze(1)).T
        residue = torch.zeros_like(logits)  # what centring the masks elsewhere than at `keep` leaves out
        size = others.numel() * features.shape[1] * self.dtype.itemsize
        factors = None
        if size <= self._kept:
            factors = torch.empty(*others.shape, features.shape[1], dtype=self.dtype, device=self.device)
        if factors is not None or self.centre != keep:
            for part in spans(len(others), max(1, self.difference.chunk // features.numel())):
                product = self._factors(features, y, others[part])
                residue[part] = product.sum(2)
                if factors is not None:
                    factors[part] = product
        residue *= self.centre - keep
        plus, minus = self.scales
        base = base_of(logits + residue * plus, logits - residue * minus)
        return _Block(features, y, others, base, None if factors is None else factors.flatten(0, 1))

    def tile(self, rows: slice, prepared: _Block) -> Tensor:
        packed, others = self.packed[rows], prepared.others
        masks = F.embedding(packed.int(), self.octets).flatten(1)[:, : self.masked.linear.in_features]
        shape = len(packed), others.numel()
        size = shape[0] * shape[1]
        # Fresh memory for every tile would cost a fifth of the product itself, spent in page faults.
        if self._product.numel() < size:
            self._product = torch.empty(size, dtype=self.dtype, device=self.device)
        product = self._product[:size].view(shape)
        if prepared.factors is not None:
            torch.mm(masks, prepared.factors.T, out=product)
        else:
            width = others.shape[1]
            for part in spans(len(others), max(1, self.difference.chunk // prepared.features.numel())):
                factors = self._factors(prepared.features, prepared.labels, others[part]).flatten(0, 1).to(self.dtype)
                product[:, part.start * width : part.stop * width] = masks @ factors.T
        return self.difference(product.view(len(packed), *others.shape), prepared.base)

    def block(self, targets: int, memory: int) -> tuple[int, int]:
        size, units = self.dtype.itemsize, self.masked.linear.in_features
        others = self.classes - 1
        self.difference.chunk = max(1 << 12, min(CHUNK, memory // 128))
        memory -= 28 * self.difference.chunk  # for the difference four pieces, for factors in the making three
        # Of a target: factors, and of each class its number and logits, full, as sub-networks', and exponentials.
        factors, rest = others * units * size, others * (8 + 9 * 4) + 2 * units * 4
        columns = min(targets, max(16, 9216 // others), max(1, memory // (2 * (factors + rest))))
        self._kept = memory // 2
        held = columns * factors if columns * factors <= self._kept else 0
        row = columns * (others * size + 4 * 4) + units * (size + 5)
        return max(1, min(1024, (memory - held - columns * rest) // row)), columns

    def _factors(self, features: Tensor, y: Tensor, others: Tensor) -> Tensor:
        """The factors a_cu of some classes, float32 [some, target, units]."""
        weight = self.masked.linear.weight.detach()
        if len(weight) == 1:  # z stands for [0, z]
            weight = F.pad(weight, (0, 0, 1, 0))
        return (weight[others].float() - weight[y].float()) * features
