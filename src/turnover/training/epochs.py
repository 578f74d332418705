"""Loss and accuracy of an epoch while it is trained, without waiting for a GPU at every step."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from turnover.batches.processes import shard
from turnover.training.parallel import added

# Steps between two looks at the loss, where a look makes somebody wait: a GPU, or the other processes.
_INTERVAL = 16


@dataclass(frozen=True)
class Epoch:
    """One epoch of a training.

    Args:
        number: from 1.
        loss: mean training loss in nats, each batch before its step.
        accuracy: on the same batches.
        extra: what the caller's `evaluate` gave at the end of the epoch.
    """

    number: int
    loss: float
    accuracy: float
    extra: Mapping[str, float] = field(default_factory=dict)


class Tally:
    """Sums over the examples of an epoch so far, over all processes.

    Args:
        device: where losses come from.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._interval = 1 if device.type == "cpu" and shard().processes == 1 else _INTERVAL
        self._pending: list[tuple[Tensor, Tensor, int]] = []
        self.clear()

    def clear(self) -> None:
        """Begin an epoch."""
        self.sums = [0.0, 0.0, 0.0]  # loss, correct, examples

    def add(self, loss: Tensor, correct: Tensor, rows: int) -> None:
        """Take in one step: mean loss [] and number of correct rows []; both count only where `rows` is not 0."""
        self._pending.append((loss.detach(), correct, rows))

    @property
    def due(self) -> bool:
        """Whether it is time to `settle`."""
        return len(self._pending) >= self._interval

    def settle(self, asked: int = 0) -> int:
        """Bring `sums` up to date; with several processes all of them must call it.

        Args:
            asked: the signal that asked this process to stop, or 0.

        Returns:
            A number other than 0 if any process was asked: its own signal, or SIGTERM for another's.
        """
        new = [0.0, 0.0, 0.0, float(asked != 0)]
        for loss, correct, rows in self._pending:
            if rows:
                for place, value in enumerate((loss.item() * rows, correct.item(), rows)):
                    new[place] += value
        self._pending = []
        new = added(new, self._device)
        self.sums = [old + more for old, more in zip(self.sums, new, strict=False)]
        return asked or (signal.SIGTERM if new[3] else 0)

    @property
    def loss(self) -> float:
        """Mean loss so far."""
        return self.sums[0] / max(self.sums[2], 1.0)
