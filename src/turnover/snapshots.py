"""The weights of a network at chosen epochs, so that memorization and influence can be followed through training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from turnover.pieces import Pieces

_PREFIX = "weights-"


class Snapshots:
    """Keeps the state dict of a network at the end of chosen epochs.

    Args:
        epochs: when; 0 is before the first step.
    """

    def __init__(self, epochs: Sequence[int]) -> None:
        self.epochs = tuple(sorted(set(epochs)))
        self._pieces = Pieces()

    def keep_in(self, pieces: Pieces) -> None:
        """Called by `train`: where to keep what is recorded."""
        self._pieces = pieces

    def record(self, epoch: int, model: nn.Module) -> None:
        """Keep the weights of `epoch` if it is one of the chosen ones."""
        if epoch in self.epochs:
            self._pieces.put(f"{_PREFIX}{epoch:06d}", model.state_dict())

    def __iter__(self) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """Epoch and state dict of each snapshot, in order, one at a time in memory."""
        for name in self._pieces.names(_PREFIX):
            yield int(name.removeprefix(_PREFIX)), self._pieces.get(name)
