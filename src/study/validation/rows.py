"""One row of the table: what a method says, how often it was repeated, and what it cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

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


def averaged(
    method: str,
    family: str,
    said: Sequence[Mapping[str, np.ndarray]],
    training: float,
    attribution: float = 0.0,
    each: int = 1,
) -> Iterator[Row]:
    """The rows of a method: its means over 1, 2, 4 ... repeats.

    Args:
        method: its name.
        family: as in `Row`.
        said: ``memorization``, ``suspicion``, ``influence``, or some of them, of every repeat.
        training: seconds of one network.
        attribution: seconds of one repeat.
        each: networks that a repeat takes.
    """
    for count in doublings(len(said)):
        parts = groups(said, count)
        means: dict[str, Any] = {kind: [mean([one[kind] for one in part]) for part in parts] for kind in said[0]}
        yield Row(method, family, count * each, count * each * training, count * attribution, **means)


def groups(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """As many disjoint groups of `size` items as there are."""
    return [items[start : start + size] for start in range(0, len(items) - size + 1, size)]


def doublings(count: int) -> list[int]:
    """1, 2, 4 and so on up to `count`."""
    return [1 << power for power in range(count.bit_length())]


def mean(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Elementwise mean, in float64."""
    total = np.zeros(arrays[0].shape)
    for array in arrays:
        total += array
    return total / len(arrays)


def seconds_each(results: Sequence[Result]) -> float:
    """Mean seconds of a result."""
    return float(np.mean([result.seconds for result in results]))
