"""The weights of a network at chosen epochs, so that memorization and influence can be followed through training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from turnover.training.recorders import EpochRecorder


class Snapshots(EpochRecorder):
    """Keeps the state dict of a network at the end of chosen epochs.

    Args:
        epochs: when; 0 is before the first step.
    """

    def __init__(self, epochs: Sequence[int]) -> None:
        super().__init__(sorted(set(epochs)), "weights-")

    def look(self, model: nn.Module) -> dict[str, Any]:
        """The state dict."""
        return model.state_dict()

    def __iter__(self) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """Epoch and state dict of each snapshot, in order, one at a time in memory."""
        return self.recorded()
