"""What watches a training: anything that looks at the network after an epoch and survives an interruption."""

from __future__ import annotations

from typing import Protocol

from torch import nn

from turnover.pieces import Pieces


class Recorder(Protocol):
    """Looks at the network after epochs, and keeps what it finds as pieces: a resumed training loses nothing."""

    def keep_in(self, pieces: Pieces) -> None:
        """Called once, before the training: where to keep what is recorded, under names that begin in a way of its own.

        Pieces of a resumed training are there already; they are all that may be kept from one epoch to another.
        """

    def record(self, epoch: int, model: nn.Module) -> object:
        """Called after every epoch, and with epoch 0 before the first step."""


class Recorders:
    """Several recorders as one.

    Args:
        recorders: by a name each.
    """

    def __init__(self, **recorders: Recorder) -> None:
        self.recorders = recorders

    def keep_in(self, pieces: Pieces) -> None:
        for recorder in self.recorders.values():
            recorder.keep_in(pieces)

    def record(self, epoch: int, model: nn.Module) -> None:
        for recorder in self.recorders.values():
            recorder.record(epoch, model)
