"""Influence for any placement: every (training example, target) pair goes through the network.

What comes before the first masked layer sees each target once: the first masked layer that a batch of targets
reaches multiplies it out into a batch of pairs, exposed and flipped alike, and everything after it
works on pairs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from turnover.attribution.scorer import DTYPES, Measure, Precision, out_of_memory, spans
from turnover.attribution.targets import Targets
from turnover.batches.outputs import loss_and_margin
from turnover.masking.calling import repeat, rows_of, take
from turnover.masking.layer import TurnOverDropout, masked_layers
from turnover.masking.masks import scales
from turnover.masking.subnetworks import subnetwork

_PAIRS = 512  # that go through the network at once, exposed and again flipped; fewer where memory is short


class _Block(NamedTuple):
    """Targets as they are: a tile needs the network anyway. In pieces that were read together."""

    labels: Tensor  # int64 [target]
    pieces: list[tuple[slice, Any]]  # which of these targets, and their inputs


class GeneralScorer:
    """Influence by running sub-networks on batches of pairs.

    Args:
        model: a network with turn-over dropout. It has hooks while it runs, and none afterwards.
        train_ids, measure: as for `influence`.
        targets: their inputs and labels; the first ones are there to try what works.
        precision: "bfloat16" runs the network under autocast; the loss difference stays in float32.
    """

    def __init__(
        self,
        model: nn.Module,
        train_ids: Tensor,
        targets: Targets,
        measure: Measure,
        precision: Precision,
    ) -> None:
        self.model, self.targets = model, targets
        self.train_ids, self.classes, self.measure = train_ids, targets.classes, measure
        self.device, self.dtype = targets.device, DTYPES[precision]
        self._packed: dict[tuple[int, int], Tensor] = {}
        self._rows, self._count = slice(0, 0), 0
        self._pairs = _PAIRS
        _, x = next(targets.batches(slice(0, min(2, len(targets.labels)))))
        with subnetwork(model, train_ids[:1].expand(rows_of(x))):
            targets.run(x)
        self._shared = self._can_share(x if rows_of(x) > 1 else repeat(x, 2))

    def prepare(self, columns: slice) -> _Block:
        pieces = [
            (slice(rows.start - columns.start, rows.stop - columns.start), x)
            for rows, x in self.targets.batches(columns)
        ]
        return _Block(self.targets.labels[columns].to(self.device), pieces)

    def tile(self, rows: slice, prepared: _Block) -> Tensor:
        while True:
            try:
                return self._tile(rows, prepared)
            except RuntimeError as error:
                if self._pairs == 1 or not out_of_memory(error):
                    raise
            self._pairs //= 2

    def block(self, targets: int, memory: int) -> tuple[int, int]:
        columns = min(targets, 4096)
        return max(1, min(256, memory // (columns * 16))), columns

    def _tile(self, rows: slice, prepared: _Block) -> Tensor:
        out = torch.empty(rows.stop - rows.start, len(prepared.labels), device=self.device)
        margin = self.measure == "margin"
        for place, x in prepared.pieces:
            count = place.stop - place.start
            width = min(count, self._pairs)
            for part in spans(count, width):
                columns = slice(place.start + part.start, place.start + part.stop)
                for some in spans(rows.stop, max(1, self._pairs // width), rows.start):
                    both = self._logits(some, take(x, part), self._shared, self.dtype)
                    labels = prepared.labels[columns].expand(both.shape[:-1])
                    exposed, flipped = loss_and_margin(both, labels)[int(margin)]
                    gain = exposed - flipped if margin else flipped - exposed
                    out[some.start - rows.start : some.stop - rows.start, columns] = gain
        return out

    def _can_share(self, x: Any) -> bool:
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

    def _logits(self, rows: slice, x: Any, shared: bool, dtype: torch.dtype) -> Tensor:
        """Logits [2, train, target, classes] of the exposed and the flipped sub-networks."""
        self._rows, self._count = rows, rows_of(x)
        count = rows.stop - rows.start
        x = x if shared else repeat(x, 2 * count)
        # The network itself and no copy: sharded ones (FSDP2) have none.
        hooks = [layer.register_forward_pre_hook(self._multiply_out) for layer in masked_layers(self.model)]
        try:
            with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
                logits = self.targets.run(x)
        finally:
            for hook in hooks:
                hook.remove()
        return logits.view(2, count, self._count, self.classes)

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
        pairs = x.unsqueeze(0) if len(x) == self._count else x.view(-1, self._count, *x.shape[1:])
        return ((pairs * scale.view(shape)).flatten(0, 1), *args[1:])
