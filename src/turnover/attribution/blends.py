"""Scores that need to know something of all training examples before the first of them is there, for a few targets."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from turnover.attribution.nearness import STRENGTH

# Of the combination: what the measured effect adds to the left-out influence, in spreads of that. Flat from .1 to .3,
# see docs/method.md.
MEASURED = 0.25
_TINY = torch.finfo(torch.float32).tiny


class Parts(NamedTuple):
    """A tile of one network, float32 [train, target] each."""

    raw: Tensor  # as the masks measure it
    factor: Tensor  # which localizes it
    left_out: Tensor | None = None


class Blend(Protocol):
    """How a score is made of its parts and of sums over all training examples."""

    pair_bytes: int  # held for each pair and network between the first walk and the second

    def sums(self, targets: int) -> Tensor:
        """Zeros, float64 [quantity, target]."""

    def add(self, sums: Tensor, rows: slice, parts: Parts) -> None:
        """Add the training examples at `rows`."""

    def known(self, sums: Tensor) -> Tensor:
        """What `scores` needs, float32 [quantity, target]."""

    def scores(self, rows: slice, parts: Parts, known: Tensor) -> Tensor:
        """Scores of the training examples at `rows`."""


class Pooled:
    """Localized scores, drawn towards the mean of their class: see `turnover.pool_within_classes`.

    Args:
        labels: of all training examples, int64 [train], on the device of the scores.
    """

    pair_bytes = 8

    def __init__(self, labels: Tensor) -> None:
        # Of each training example, the place of its class among those that there are.
        classes, self._group = torch.unique(labels, return_inverse=True)
        self._classes = len(classes)

    def sums(self, targets: int) -> Tensor:
        return torch.zeros(2 * self._classes, targets, dtype=torch.float64, device=self._group.device)

    def add(self, sums: Tensor, rows: slice, parts: Parts) -> None:
        group, width = self._group[rows], sums.shape[1]
        halves = torch.split(sums, self._classes)
        for total, values in zip(halves, (parts.raw * parts.factor, parts.factor), strict=True):
            some = torch.zeros(self._classes, width, device=sums.device)
            total += some.index_add_(0, group, values)

    def known(self, sums: Tensor) -> Tensor:
        total, weights = torch.split(sums, self._classes)
        # Where no example of a class is near a target, there is nothing to pool, and the factor is 0 anyway.
        return (total / weights.clamp(min=_TINY)).float()

    def scores(self, rows: slice, parts: Parts, known: Tensor) -> Tensor:
        found = parts.raw * parts.factor
        found += STRENGTH * parts.factor * known[self._group[rows]]
        return found


class Combined:
    """Left-out influence, and the measured effect, localized, brought to its spread over the training examples.

    Args:
        train: how many training examples there are.
        device: of the scores.
    """

    pair_bytes = 12

    def __init__(self, train: int, device: torch.device) -> None:
        self._train, self._device = train, device

    def sums(self, targets: int) -> Tensor:
        return torch.zeros(4, targets, dtype=torch.float64, device=self._device)

    def add(self, sums: Tensor, rows: slice, parts: Parts) -> None:
        assert parts.left_out is not None
        for place, values in enumerate((parts.left_out, parts.raw * parts.factor)):
            sums[2 * place] += values.sum(0)  # of a tile, in float32
            sums[2 * place + 1] += values.square().sum(0)

    def known(self, sums: Tensor) -> Tensor:
        means = sums / self._train
        spread = [(means[of + 1] - means[of].square()).clamp(min=0.0).sqrt() for of in (0, 2)]
        ratio = torch.where(spread[1] > 0, MEASURED * spread[0] / spread[1].clamp(min=_TINY), 0.0)
        return ratio.float().unsqueeze(0)

    def scores(self, rows: slice, parts: Parts, known: Tensor) -> Tensor:
        assert parts.left_out is not None
        return torch.addcmul(parts.left_out, parts.raw * parts.factor, known)
