"""What no attribution can exceed: how far networks agree that were trained on the same subset from other seeds."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np

from study.retraining.lds import correlations, ranks
from turnover.errors import UserError


class Ceiling(NamedTuple):
    """Of the LDS, each the mean over targets.

    Args:
        single: Spearman's correlation over subsets of one network's outputs with another's of the same subsets.
        others: of one network's outputs with the mean of the others'.
        oracle: of one network's outputs with their expectation, which is the LDS that perfect foresight would get:
            the square root of `single` (a network's rank is its subset's and noise of its own).
        low, high: interval of `oracle`: bootstrap over subsets.
    """

    single: float
    others: float
    oracle: float
    low: float
    high: float


def lds_ceiling(outputs: np.ndarray, *, resamples: int = 200, confidence: float = 0.95) -> Ceiling:
    """The ceiling of the linear datamodelling score.

    Args:
        outputs: [times, subset, target], larger where a network does better.
        resamples: of the subsets.
        confidence: of the interval.

    Raises:
        UserError: there are fewer than two networks a subset, or fewer than four subsets.
    """
    times, subsets, _ = outputs.shape
    if times < 2 or subsets < 4:
        raise UserError(f"{times} networks on each of {subsets} subsets tell no ceiling: at least 2 on 4 are needed")
    everything = np.arange(subsets)
    single, others = _agreement(outputs, everything)
    rng = np.random.default_rng(0)
    drawn = [_agreement(outputs, rng.choice(everything, subsets))[0] for _ in range(resamples)]
    # Ties of a subset drawn twice push agreement up; the spread around their own mean is what the interval needs.
    spread = np.sqrt(np.clip(drawn, 0.0, None))
    low, high = np.quantile(spread - spread.mean(), [(1 - confidence) / 2, (1 + confidence) / 2])
    oracle = float(np.sqrt(max(single, 0.0)))
    return Ceiling(single, others, oracle, oracle + float(low), min(1.0, oracle + float(high)))


def _agreement(outputs: np.ndarray, subsets: np.ndarray) -> tuple[float, float]:
    """Mean correlation of two networks' outputs, and of one's with the mean of the others'."""
    ranked = np.stack([ranks(of[subsets]) for of in outputs])
    single = np.mean([correlations(ranked[a], ranked[b]).mean() for a, b in combinations(range(len(ranked)), 2)])
    if len(ranked) == 2:
        return float(single), float(single)
    others = [
        correlations(ranked[one], ranks(np.delete(outputs, one, 0)[:, subsets].mean(0))).mean()
        for one in range(len(ranked))
    ]
    return float(single), float(np.mean(others))
