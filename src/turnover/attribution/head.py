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

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from turnover.attribution.fused import Base, Difference, base_of
from turnover.attribution.scorer import DTYPES, Measure, Precision
from turnover.masking.masks import scales
from turnover.reading.features import head_features
from turnover.reading.outputs import MaskedHead


class HeadScorer:
    """Influence where `masked` is the only masked layer of `model`.

    Args:
        model: the network, in any mode.
        masked: its masked head (`turnover.reading.outputs.masked_head`).
        train_ids, measure, precision: as for `influence`; the loss difference is computed in float32 either way.
        fused: compile the loss difference.
    """

    def __init__(
        self,
        model: nn.Module,
        masked: MaskedHead,
        train_ids: Tensor,
        measure: Measure,
        precision: Precision,
        fused: bool,
    ) -> None:
        self.model, self.masked = model, masked
        self.classes = masked.linear.out_features
        self.device = masked.linear.weight.device
        self.dtype = DTYPES[precision]
        units, keep = masked.linear.in_features, masked.dropout.keep
        self.packed = masked.dropout.masks(units).packed(train_ids).to(self.device)
        # Masks hold (1 - centre, -centre), not (1, 0): both exact in bfloat16 for a multiple of 1/256.
        self.centre = round(keep * 256) / 256
        bits = (torch.arange(256).unsqueeze(1) >> torch.arange(8)) & 1
        self.octets = (bits - self.centre).to(self.device, self.dtype)
        self._product = torch.empty(0, dtype=self.dtype, device=self.device)
        self.scales = scales(keep)
        self.difference = Difference(measure, *self.scales, fused)

    def prepare(self, x: Tensor, y: Tensor) -> tuple[Tensor, Base]:
        """Factors a_cu [units, (classes - 1) * target], class after class, and what their products are added to."""
        linear, keep = self.masked.linear, self.masked.dropout.keep
        features, full = head_features(self.model, x, _channels_last)
        weight = linear.weight.detach().float()
        steps = torch.arange(1, self.classes, device=self.device).unsqueeze(1)
        others = (y.long() + steps) % self.classes  # [classes - 1, target]
        logits = full.T.gather(0, others) - full.gather(1, y.long().unsqueeze(1)).T
        factors = torch.empty(*others.shape, features.shape[1], dtype=self.dtype, device=self.device)
        residue = torch.empty_like(logits)  # what centring the masks elsewhere than at `keep` leaves out
        for number, other in enumerate(others):  # class by class: float32 scratch of one class only
            product = (weight[other] - weight[y]) * features
            factors[number] = product
            residue[number] = product.sum(1)
        residue *= self.centre - keep
        plus, minus = self.scales
        return factors.flatten(0, 1).T, base_of(logits + residue * plus, logits - residue * minus)

    def tile(self, rows: slice, prepared: tuple[Tensor, Base]) -> Tensor:
        factors, base = prepared
        packed = self.packed[rows]
        masks = F.embedding(packed.int(), self.octets).flatten(1)[:, : factors.shape[0]]
        shape = len(packed), factors.shape[1]
        size = shape[0] * shape[1]
        # Fresh memory for every tile would cost a fifth of the product itself, spent in page faults.
        if self._product.numel() < size:
            self._product = torch.empty(size, dtype=self.dtype, device=self.device)
        product = torch.mm(masks, factors, out=self._product[:size].view(shape))
        return self.difference(product.view(len(packed), *base.exposed.shape), base)

    def block(self, targets: int, memory: int) -> tuple[int, int]:
        size, units = self.dtype.itemsize, self.masked.linear.in_features
        others = max(1, self.classes - 1)
        # factors, their two float32 operands; the product and the scores of a row
        column = others * (units * size + 8) + 2 * units * 4
        columns = min(targets, max(16, 9216 // others), max(1, memory // (2 * column)))
        row = columns * (others * size + 4 * 4) + units * (size + 5)
        return max(1, min(1024, (memory - columns * column) // row)), columns


def _channels_last(x: Tensor) -> Tensor:
    """The same images, laid out as CPU convolutions and poolings like them best: they take half the time.

    Strides are set outright because with a single channel PyTorch takes any layout for the default one.
    """
    if x.dim() != 4 or x.device.type != "cpu":
        return x
    _, channels, height, width = x.shape
    x = x.permute(0, 2, 3, 1).contiguous()
    return x.as_strided((len(x), channels, height, width), (channels * height * width, 1, channels * width, channels))
