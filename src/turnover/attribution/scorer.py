"""What every way of computing influence offers: targets prepared once, then tiles of scores."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from turnover.reading.outputs import loss_and_margin

Measure = Literal["loss", "margin"]
Precision = Literal["float32", "bfloat16"]

DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Scorer(Protocol):
    """Scores of one network for one list of training examples."""

    classes: int
    device: torch.device

    def prepare(self, x: Tensor, y: Tensor) -> Any:
        """What depends on the targets (inputs x [target, ...], labels y [target]) alone, computed once."""

    def tile(self, rows: slice, prepared: Any) -> Tensor:
        """Influence, float32 [train, target], of the training examples at `rows` on the prepared targets."""

    def block(self, targets: int, memory: int) -> tuple[int, int]:
        """Training examples and targets (out of `targets`) of a tile with at most `memory` bytes of scratch."""


def spans(length: int, step: int, start: int = 0) -> list[slice]:
    """`start` to `length` in parts of `step`."""
    return [slice(low, min(low + step, length)) for low in range(start, length, step)]


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that a device, or the CPU, has no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def gain(exposed: Tensor, flipped: Tensor, y: Tensor, measure: Measure) -> Tensor:
    """Influence from logits: how much better the exposed sub-network does on each target than the flipped one.

    Args:
        exposed, flipped: logits [..., target, classes] under m(i) and ~m(i).
        y: labels [target].
        measure: "loss" or "margin"; see `influence`.

    Returns:
        float32 [..., target]; positive: i helps.
    """
    labels = y.expand(exposed.shape[:-1])
    which = 0 if measure == "loss" else 1
    with_i, without_i = (loss_and_margin(logits, labels)[which] for logits in (exposed, flipped))
    return without_i - with_i if measure == "loss" else with_i - without_i
