"""What every way of computing influence offers: targets prepared once, then tiles of scores."""

from __future__ import annotations

import tempfile
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from turnover.attribution.room import take_room

Measure = Literal["loss", "margin"]
Precision = Literal["float32", "bfloat16"]

DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Scorer(Protocol):
    """Scores of one network for one list of training examples and one of targets."""

    classes: int
    device: torch.device

    def prepare(self, columns: slice) -> Any:
        """What depends on these targets alone, computed once."""

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


def scratch(shape: tuple[int, ...], memory: int, device: torch.device) -> Tensor:
    """Room for float32 numbers: on `device` where they fit into `memory` bytes, else in a file that goes with it.

    Raises:
        UserError: the disk of temporary files is full.
    """
    size = 4 * int(np.prod(shape))
    if size <= memory:
        return torch.empty(shape, device=device)
    with tempfile.TemporaryFile(prefix="turnover-") as file:  # unlinked: the mapping alone keeps it
        take_room(
            file,
            size,
            f"a temporary file in {tempfile.gettempdir()}",
            "set TMPDIR to a folder on a larger disk, or raise memory=",
        )
        return torch.from_numpy(np.memmap(file, np.float32, "w+", shape=shape))
