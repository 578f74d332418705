"""What watches a training: anything that looks at the network after an epoch and survives an interruption."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from torch import Tensor, nn

from turnover.training.attachments import Attachments


class Recorder(Protocol):
    """Looks at the network after epochs, and keeps what it finds as attachments, of which a resumed training
    loses none."""

    def keep_in(self, attachments: Attachments) -> None:
        """Called by `train` before anything is recorded: where to keep it, under names that are its own."""

    def record(self, epoch: int, model: nn.Module) -> None:
        """Called after every epoch, and with epoch 0 before the first step."""


class EpochRecorder(ABC):
    """A `Recorder` of chosen epochs, with one attachment for each.

    Args:
        epochs: when to look; epoch 0 is the untrained network.
        prefix: of the names of its attachments, no other recorder's.
    """

    def __init__(self, epochs: Sequence[int], prefix: str) -> None:
        self.epochs = tuple(epochs)
        self._prefix = prefix
        self._attachments = Attachments()

    @abstractmethod
    def look(self, model: nn.Module) -> Mapping[str, Tensor]:
        """What is kept of an epoch."""

    def keep_in(self, attachments: Attachments) -> None:
        """Called by `train`: where to keep what is recorded."""
        self._attachments = attachments

    def record(self, epoch: int, model: nn.Module) -> None:
        """Record `epoch` if it is one of the chosen ones."""
        if epoch in self.epochs:
            self._attachments.put(f"{self._prefix}{epoch:06d}", self.look(model))

    def recorded(self) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """Every recorded epoch, in order, with what was kept of it."""
        for name in self._attachments.names(self._prefix):
            yield int(name.removeprefix(self._prefix)), self._attachments.get(name)
