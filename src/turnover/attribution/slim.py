"""Influence in networks that are a chain of layers: every training example is a narrower network of its own.

The exposed sub-network of a training example only needs the units that its mask keeps, the flipped one only the
others. Cut out of the weights, both together cost less than one pass through the full network, and a block of
targets goes through each of them at once. Where the layer behind the first mask is not masked itself, its flipped
pre-activations follow from linearity: (full - keep * exposed) / (1 - keep), bias included.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from turnover.attribution.chain import Segment, read_chain
from turnover.attribution.scorer import DTYPES, Measure, Precision, device_of, gain
from turnover.masking.layer import TurnOverDropout

# Numbers of an activation that fit the processor's cache: decides how many targets go together.
_CACHED = 1 << 21


class Targets(NamedTuple):
    """A block of targets in front of the first masked affine layer."""

    hidden: Tensor  # [target, units or a multiple of it, ...]
    full: Tensor | None  # float32 [target, ...]: pre-activations of that layer in the full network / (1 - keep)
    y: Tensor


class Layer(NamedTuple):
    """An affine layer of one sub-network: weights between the units it keeps, scaled by 1 / keep, and bias."""

    weight: Tensor
    bias: Tensor | None


class SlimScorer:
    """Influence in a chain.

    Args:
        model: the network. It is copied.
        train_ids: ids [train] of the training examples.
        classes: number of classes.
        measure: "loss" or "margin".
        precision: of all layers but the last, which is computed in float32.

    Raises:
        ValueError: the network is no chain of layers.
    """

    def __init__(
        self, model: nn.Module, train_ids: Tensor, classes: int, measure: Measure, precision: Precision
    ) -> None:
        chain = read_chain(copy.deepcopy(getattr(model, "_orig_mod", model)).eval())
        if chain is None:
            raise ValueError("the network is no chain of layers")
        self.chain, self.classes, self.measure, self.train_ids = chain, classes, measure, train_ids
        self.device, self.dtype = device_of(model), DTYPES[precision]
        last = len(chain.segments) - 1
        self.layers = []
        for number, segment in enumerate(chain.segments):
            dtype = torch.float32 if number == last else self.dtype
            weight, bias = segment.affine.weight.detach(), segment.affine.bias
            self.layers.append(Layer(weight.to(dtype), bias.detach().to(dtype) if bias is not None else None))
            for step in segment.steps:
                if isinstance(step, nn.ReLU):
                    step.inplace = True  # pre-activations are ours, and the network is a copy
        # Exposed once, the first layer's flipped pre-activations follow: unless a mask lets it skip half of them.
        self.linear = chain.segments[0].mask is None and last > 0
        self.units = 0  # of the first mask; known once a target has come by
        self._packed: dict[int, Tensor] = {}

    @torch.no_grad()
    def prepare(self, x: Tensor, y: Tensor) -> Targets:
        chain = self.chain
        for module in chain.before:
            x = module(x)
        self.units = x.shape[1]
        for module in chain.after:
            x = module(x)
        full = chain.segments[0].affine(x).float() / (1.0 - chain.mask.keep) if self.linear else None
        hidden = x.to(self.layers[0].weight.dtype)
        if hidden.dim() == 4:
            hidden = hidden.contiguous(memory_format=torch.channels_last)
        return Targets(hidden, full, y)

    @torch.no_grad()
    def tile(self, rows: slice, prepared: Targets) -> Tensor:
        count, targets = rows.stop - rows.start, len(prepared.y)
        logits = torch.empty(2, count, targets, self.classes, device=self.device)
        masks = self._masks(rows)
        step = max(16, _CACHED // prepared.hidden[0].numel())
        for row in range(count):
            sides = [self._cut([mask[side][row] if mask else None for mask in masks], side) for side in (0, 1)]
            first = [self._first(masks[0][side][row]) for side in (0, 1)]  # type: ignore[index]
            for left in range(0, targets, step):
                part = slice(left, left + step)
                hidden = prepared.hidden[part]
                begun = [_affine(hidden.index_select(1, first[0]), sides[0][0], self.chain.segments[0])]
                if prepared.full is not None:
                    odds = self.chain.mask.keep / (1.0 - self.chain.mask.keep)
                    begun.append(torch.sub(prepared.full[part], begun[0], alpha=odds).to(self.dtype))
                else:
                    begun.append(_affine(hidden.index_select(1, first[1]), sides[1][0], self.chain.segments[0]))
                for side in (0, 1):
                    logits[side, row, part] = self._rest(begun[side], sides[side])
        return gain(logits[0], logits[1], prepared.y, self.measure)

    def block(self, targets: int, memory: int) -> tuple[int, int]:
        columns = min(targets, 1024)
        return max(1, min(64, memory // (columns * self.classes * 32))), columns

    def _rest(self, x: Tensor, layers: list[Layer]) -> Tensor:
        """Logits from the first segment's pre-activations."""
        for number, layer in enumerate(layers[1:], start=1):
            for step in self.chain.segments[number - 1].steps:
                x = step(x)
            x = _affine(x.to(layer.weight.dtype), layer, self.chain.segments[number])
        return x

    def _masks(self, rows: slice) -> list[tuple[Tensor, Tensor] | None]:
        """Units [train, units] that are kept and that are not, of the first mask and of every segment's."""
        found: list[tuple[Tensor, Tensor] | None] = []
        widths = [self.units] + [segment.affine.weight.shape[0] for segment in self.chain.segments]
        for layer, width in zip([self.chain.mask] + [s.mask for s in self.chain.segments], widths, strict=True):
            if layer is None:
                found.append(None)
                continue
            masks = layer.masks(width)
            if layer.layer not in self._packed:
                self._packed[layer.layer] = masks.packed(self.train_ids).to(self.device)
            kept = masks.unpack(self._packed[layer.layer][rows])
            shape = len(kept), -1
            found.append((kept.nonzero()[:, 1].view(shape), (~kept).nonzero()[:, 1].view(shape)))
        return found

    def _cut(self, masks: list[Tensor | None], side: int) -> list[Layer]:
        """The layers of one sub-network; `masks` holds its units in front of the first segment and behind each."""
        cut = []
        before: TurnOverDropout | None = self.chain.mask
        for number, segment in enumerate(self.chain.segments):
            layer = self.layers[number]
            weight, bias = layer
            inner, outer = masks[number], masks[number + 1]
            if side == 1 and number == 0 and self.linear:
                cut.append(layer)  # stands in for one that is not needed
            else:
                if outer is not None:
                    weight, bias = weight[outer], bias[outer] if bias is not None else None
                if inner is not None and before is not None:
                    units = self.units if number == 0 else self.chain.segments[number - 1].affine.weight.shape[0]
                    weight = weight.index_select(1, _repeated(inner, weight.shape[1] // units))
                    weight = weight / (1.0 - before.keep if side else before.keep)
                if weight.dim() == 4:
                    weight = weight.contiguous(memory_format=torch.channels_last)
                cut.append(Layer(weight, bias))
            before = segment.mask
        return cut

    def _first(self, units: Tensor) -> Tensor:
        return _repeated(units, self.layers[0].weight.shape[1] // self.units)


def _repeated(units: Tensor, times: int) -> Tensor:
    """Numbers of the inputs that belong to `units`, where Flatten has made `times` of each."""
    return (units.unsqueeze(1) * times + torch.arange(times, device=units.device)).flatten()


def _affine(x: Tensor, layer: Layer, segment: Segment) -> Tensor:
    affine = segment.affine
    if isinstance(affine, nn.Linear):
        return F.linear(x, layer.weight, layer.bias)
    out: Tensor = affine._conv_forward(x, layer.weight, layer.bias)
    return out
