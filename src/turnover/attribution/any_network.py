"""Influence for any placement: every (training example, target) pair goes through the network.

What comes before the first masked layer sees each target once: the first masked layer that a batch of targets
reaches multiplies it out into a batch of pairs, exposed and flipped alike, and everything after it
works on pairs.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from turnover.attribution.scorer import DTYPES, Measure, Precision, out_of_memory, spans
from turnover.masking.layer import TurnOverDropout, masked_layers
from turnover.masking.masks import scales
from turnover.reading.outputs import loss_and_margin
from turnover.reading.passes import device_of, evaluating, original

_PAIRS = 512  # that go through the network at once, exposed and again flipped; fewer where memory is short


class GeneralScorer:
    """Influence by running sub-networks on batches of pairs.

    Args:
        model: a network with turn-over dropout. It is copied: hooks never show on the original.
        train_ids, measure: as for `influence`.
        x: some inputs [target, ...], to try what works.
        precision: "bfloat16" runs the network under autocast; the loss difference stays in float32.
    """

    def __init__(
        self, model: nn.Module, train_ids: Tensor, x: Tensor, classes: int, measure: Measure, precision: Precision
    ) -> None:
        self.model = copy.deepcopy(original(model))
        self.train_ids, self.classes, self.measure = train_ids, classes, measure
        self.device, self.dtype = device_of(model), DTYPES[precision]
        self._packed: dict[tuple[int, int], Tensor] = {}
        self._rows, self._targets = slice(0, 0), 0
        self._pairs = _PAIRS
        for layer in masked_layers(self.model):
            layer.register_forward_pre_hook(self._multiply_out)
        self._shared = self._can_share(x[:2] if len(x) > 1 else x.repeat(2, *[1] * (x.dim() - 1)))

    def prepare(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The targets as they are: a tile needs the network anyway."""
        return x, y

    def tile(self, rows: slice, prepared: tuple[Tensor, Tensor]) -> Tensor:
        while True:
            try:
                return self._tile(rows, *prepared)
            except RuntimeError as error:
                if self._pairs == 1 or not out_of_memory(error):
                    raise
            self._pairs //= 2

    def block(self, targets: int, memory: int) -> tuple[int, int]:
        columns = min(targets, 4096)
        return max(1, min(256, memory // (columns * 16))), columns

    def _tile(self, rows: slice, x: Tensor, y: Tensor) -> Tensor:
        out = torch.empty(rows.stop - rows.start, len(y), device=self.device)
        width, margin = min(len(y), self._pairs), self.measure == "margin"
        for columns in spans(len(y), width):
            for some in spans(rows.stop, max(1, self._pairs // width), rows.start):
                both = self._logits(some, x[columns], self._shared, self.dtype)
                labels = y[columns].expand(both.shape[:-1])
                exposed, flipped = loss_and_margin(both, labels)[int(margin)]
                gain = exposed - flipped if margin else flipped - exposed
                out[some.start - rows.start : some.stop - rows.start, columns] = gain
        return out

    def _can_share(self, x: Tensor) -> bool:
        """Whether targets, here two, may go to the first masked layer once, and only then become pairs.

        Not where something from before that layer is used after it again, as in a skip connection.
        """
        # This way always works, so an error of the network itself comes to light here.
        expected = self._logits(slice(0, 1), x, False, torch.float32)
        try:
            found = self._logits(slice(0, 1), x, True, torch.float32)
        except Exception as error:
            if out_of_memory(error):
                raise
            return False
        return torch.allclose(found, expected, rtol=1e-2, atol=1e-3 * float(expected.abs().max()), equal_nan=True)

    def _logits(self, rows: slice, x: Tensor, shared: bool, dtype: torch.dtype) -> Tensor:
        """Logits [2, train, target, classes] of the exposed and the flipped sub-networks."""
        self._rows, self._targets = rows, len(x)
        count = rows.stop - rows.start
        x = x if shared else x.repeat(2 * count, *[1] * (x.dim() - 1))
        with evaluating(self.model), torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            return self.model(x).view(2, count, self._targets, self.classes)  # type: ignore[no-any-return]

    def _multiply_out(self, layer: TurnOverDropout, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Forward pre-hook of a masked layer, which itself does nothing outside of a `subnetwork`."""
        x: Tensor = args[0]
        count, dim = self._rows.stop - self._rows.start, layer.unit_dim(x)
        units = x.shape[dim]
        masks, key = layer.masks(units), (layer.layer, units)
        if key not in self._packed:
            self._packed[key] = masks.packed(self.train_ids).to(self.device)
        mask = masks.unpack(self._packed[key][self._rows], torch.bool)
        plus, minus = scales(layer.keep)
        scale = torch.cat([mask * plus, ~mask * minus]).to(x.dtype)
        shape = [1] * (x.dim() + 1)
        shape[0], shape[dim + 1] = 2 * count, units
        pairs = x.unsqueeze(0) if len(x) == self._targets else x.view(-1, self._targets, *x.shape[1:])
        return ((pairs * scale.view(shape)).flatten(0, 1), *args[1:])
