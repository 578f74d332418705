"""What watches a training: anything that looks at the network after an epoch and survives an interruption."""

from __future__ import annotations

from typing import Any, Protocol

from torch import nn


class Recorder(Protocol):
    """Looks at the network after epochs; its state is part of the checkpoint, so a resumed training loses nothing."""

    def record(self, epoch: int, model: nn.Module) -> object:
        """Called after every epoch, and with epoch 0 before the first step."""

    def state(self) -> Any:
        """What was recorded so far: tensors and plain containers, nothing else."""

    def restore(self, state: Any) -> None:
        """Take up where a recorder with that state stood."""


class Recorders:
    """Several recorders as one.

    Args:
        recorders: by a name each, which keeps their states apart in the checkpoint.
    """

    def __init__(self, **recorders: Recorder) -> None:
        self.recorders = recorders

    def record(self, epoch: int, model: nn.Module) -> None:
        for recorder in self.recorders.values():
            recorder.record(epoch, model)

    def state(self) -> dict[str, Any]:
        return {name: recorder.state() for name, recorder in self.recorders.items()}

    def restore(self, state: dict[str, Any]) -> None:
        for name, recorder in self.recorders.items():
            recorder.restore(state[name])
