"""The loss (or margin) difference of a tile: from the product to the score, for the loss in one pass over memory.

PyTorch's own operations pass over a tile a dozen times, which costs nearly as much as the matrix product that made
it; compiled, a sixth of it. Compilation takes seconds and needs a C++ compiler (on a GPU, Triton), so small jobs,
margins and machines without one use PyTorch's operations; the results agree to rounding.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from turnover.attribution.scorer import Measure, out_of_memory

# Below so many pairs a compilation costs more than it saves.
WORTH_COMPILING = 200_000_000
# Classes that the compiled difference handles without a loop: three times as fast, but longer to compile.
_UNROLLED = 64
# Numbers that the uncompiled difference works on at once, if there is room: they stay in the processor's cache.
CHUNK = 1 << 20
# Sums of exponentials below this may have lost digits.
_TINY = 1e-30


class Base(NamedTuple):
    """Relative logits of the full network, which a product deviates from: float32 [classes - 1, target] each."""

    exposed: Tensor
    flipped: Tensor
    # Their exponentials, and below them that of the label's own logit, 0: [classes, target]. All are divided by
    # the same number for each target, so that none overflows.
    exp_exposed: Tensor
    exp_flipped: Tensor


def base_of(exposed: Tensor, flipped: Tensor) -> Base:
    """Everything about a block of targets that its tiles share."""
    top = torch.maximum(exposed, flipped).amax(0, keepdim=True).clamp(min=0.0)
    exponentials = [torch.cat([logits - top, -top]).exp() for logits in (exposed, flipped)]
    return Base(exposed, flipped, *exponentials)


class Difference:
    """Influence from deviations of relative logits; see `turnover.attribution.head`.

    Args:
        measure: "loss" or "margin".
        plus: factor of the deviation in the exposed sub-network, 1 / keep.
        minus: factor of its opposite in the flipped sub-network, 1 / (1 - keep).
        fused: compile the loss difference, if this machine can.
    """

    def __init__(self, measure: Measure, plus: float, minus: float, fused: bool) -> None:
        self.measure, self.scales = measure, (plus, minus)
        self.fused = fused and measure == "loss"
        self.chunk = CHUNK  # float32 numbers; four such pieces of scratch

    def __call__(self, product: Tensor, base: Base) -> Tensor:
        """Scores.

        Args:
            product: deviations [train, classes - 1, target], of any float type.
            base: what they are added to (exposed) and taken off (flipped).

        Returns:
            float32 [train, target].
        """
        # A tile of one row or column would be compiled once more, for that size alone.
        if self.fused and min(product.shape[0], product.shape[2]) > 1:
            try:
                kernel = _loss_kernel(self.scales[0] == self.scales[1])
                scores = kernel(product, base.exp_exposed, base.exp_flipped, *self.scales)
                if bool(scores.sum().isfinite()):  # or logits so large that the short way overflowed somewhere
                    return scores
            except Exception as error:  # whatever the compiler chain lacks, the result does not depend on it
                if out_of_memory(error):
                    raise
                self.fused = False
                lines = str(error).strip().splitlines() or [type(error).__name__]
                message = f"influence runs uncompiled, up to twice as long: {lines[0]}"
                warnings.warn(message, RuntimeWarning, stacklevel=2)
        out = torch.empty(product.shape[0], product.shape[2], device=product.device)
        rows = max(1, self.chunk // base.exposed.numel())
        for top in range(0, len(out), rows):
            out[top : top + rows] = self._in_steps(product[top : top + rows], base)
        return out

    def _in_steps(self, product: Tensor, base: Base) -> Tensor:
        with_i = torch.add(base.exposed, product, alpha=self.scales[0])
        without_i = torch.sub(base.flipped, product, alpha=self.scales[1])
        if self.measure == "margin":
            return without_i.amax(1) - with_i.amax(1)
        return _loss(without_i) - _loss(with_i)


def _loss(relative: Tensor) -> Tensor:
    """``log(1 + sum_c exp(relative))`` over dimension 1, without overflow."""
    top = relative.amax(1).clamp_(min=0.0)
    total = relative.sub_(top.unsqueeze(1)).exp_().sum(1)
    return total.add_(torch.exp(-top)).log_().add_(top)


@cache
def _loss_kernel(symmetric: bool) -> Callable[[Tensor, Tensor, Tensor, float, float], Tensor]:
    """The loss difference as one loop over train and target, classes unrolled; not finite where it may be wrong.

    With ``exp(base + d) = exp(base) exp(d)`` no maximum is needed, and where both sub-networks keep half of the units
    (`symmetric`), one exponential serves both.
    """

    def kernel(product: Tensor, exposed: Tensor, flipped: Tensor, plus: float, minus: float) -> Tensor:
        with_i, without_i = exposed[-1], flipped[-1]
        if product.shape[1] > _UNROLLED:
            deviations = product.float()
            with_i = with_i + (exposed[:-1] * torch.exp(plus * deviations)).sum(1)
            without_i = without_i + (flipped[:-1] * torch.exp(-minus * deviations)).sum(1)
        else:
            for number, deviation in enumerate(product.unbind(1)):
                rise = torch.exp(plus * deviation.float())
                with_i = with_i + exposed[number] * rise
                if symmetric:
                    without_i = without_i + flipped[number] / rise
                else:
                    without_i = without_i + flipped[number] * torch.exp(-minus * deviation.float())
        sound = torch.minimum(with_i, without_i) > _TINY
        return torch.where(sound, torch.log(without_i / with_i), torch.inf)

    return torch.compile(kernel, dynamic=True)
