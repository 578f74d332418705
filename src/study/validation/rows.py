"""One row of the table: what a method says, how often it was repeated, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from study.artefacts.kept import Result

Item = TypeVar("Item")


@dataclass(frozen=True)
class Row:
    """A method on a number of networks. What it does not estimate is empty.

    Args:
        method: its name.
        family: ``turn-over``, ``dynamics``, ``peer``, ``retraining`` or ``control``.
        networks: how many trainings one estimate takes.
        training: seconds of these trainings.
        attribution: seconds of everything after them, for all that the row holds.
        memorization: scores [train], one for every repeat on other networks.
        suspicion: scores [train] for wrong labels, likewise.
        influence: [train, target], likewise.
        judged_by: which of the subset networks judge it: the first so many are left out.
    """

    method: str
    family: str
    networks: int
    training: float
    attribution: float
    memorization: Sequence[np.ndarray] = field(default=())
    suspicion: Sequence[np.ndarray] = field(default=())
    influence: Sequence[np.ndarray] = field(default=())
    judged_by: int = 0

    @property
    def repeats(self) -> int:
        """On how many sets of networks of its own the method was tried."""
        return max(len(self.memorization), len(self.suspicion), len(self.influence))


def groups(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """As many disjoint groups of `size` items as there are."""
    return [items[start : start + size] for start in range(0, len(items) - size + 1, size)]


def doublings(count: int) -> list[int]:
    """1, 2, 4 and so on up to `count`."""
    return [1 << power for power in range(count.bit_length()) if 1 << power <= count]


def mean(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Elementwise mean, in float64."""
    total = np.zeros(arrays[0].shape)
    for array in arrays:
        total += array
    return total / len(arrays)


def seconds_each(results: Sequence[Result], of: str | None = None) -> float:
    """Mean seconds of a result, or of its step `of`."""
    return float(np.mean([result.seconds if of is None else result[f"seconds_{of}"] for result in results]))
