"""What watches a training: anything that looks at the network after an epoch and survives an interruption."""

from __future__ import annotations

from typing import Protocol

from torch import nn

from turnover.pieces import Pieces


class Recorder(Protocol):
    """Looks at the network after epochs, and keeps what it finds as pieces, of which a resumed training loses none."""

    def keep_in(self, pieces: Pieces) -> None:
        """Called by `train` before anything is recorded: where to keep it. Names of pieces must be its own."""

    def record(self, epoch: int, model: nn.Module) -> None:
        """Called after every epoch, and with epoch 0 before the first step."""
