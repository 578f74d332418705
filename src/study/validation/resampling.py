"""Figures of merit with bootstrap intervals: all resamples at once, as weights of the examples.

A resample gives every example a weight: how often it was drawn. Ranks are those of the whole sample. That makes a
bootstrap of a rank correlation a few matrix products; the points themselves are scipy's and scikit-learn's figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata


class Estimate(NamedTuple):
    """A figure, the interval around it, and the lowest and highest of the runs it is the mean of."""

    value: float
    low: float
    high: float
    worst: float
    best: float


Merit = Callable[[np.ndarray, np.ndarray], np.ndarray]  # scores [n], weights [resamples, n] -> [resamples]


def draw_weights(n: int, resamples: int, seed: int) -> np.ndarray:
    """float64 [1 + resamples, n]; the first row is the sample itself, all ones."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(n, np.full(n, 1.0 / n), size=resamples)
    return np.concatenate([np.ones((1, n)), drawn]).astype(np.float64)


def estimate(merit: Merit, runs: Sequence[np.ndarray], weights: np.ndarray, confidence: float) -> Estimate:
    """The mean over `runs` of a figure of merit, with its percentile interval over examples.

    Args:
        merit: of one run's scores under given weights.
        runs: scores [n] each.
        weights: as `draw_weights` gives them.
        confidence: of the interval.
    """
    values = np.stack([merit(np.asarray(run, dtype=np.float64), weights) for run in runs])  # [runs, 1 + resamples]
    means = values.mean(0)
    low, high = np.nanquantile(means[1:], [(1 - confidence) / 2, (1 + confidence) / 2])
    single = values[:, 0]
    return Estimate(float(means[0]), float(low), float(high), float(single.min()), float(single.max()))


def spearman_with(truth: np.ndarray) -> Merit:
    """Spearman's correlation with `truth` [n]."""
    ranks = rankdata(truth)
    return lambda scores, weights: _correlation(rankdata(scores), ranks, weights)


def partial_spearman_with(truth: np.ndarray, given: np.ndarray) -> Merit:
    """Spearman's partial correlation with `truth` [n], what `given` [n] explains of both taken away.

    ``(r_xy - r_xz r_yz) / sqrt((1 - r_xz^2) (1 - r_yz^2))`` of the rank correlations; 0 for `given` itself.
    """
    y, z = rankdata(truth), rankdata(given)

    def merit(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
        x = rankdata(scores)
        xy, xz, yz = (_correlation(a, b, weights) for a, b in ((x, y), (x, z), (y, z)))
        rest = np.sqrt(np.clip((1 - xz**2) * (1 - yz**2), 0, None))
        return np.asarray(np.divide(xy - xz * yz, rest, out=np.zeros_like(rest), where=rest > 1e-9))

    return merit


def auroc_for(positive: np.ndarray) -> Merit:
    """Area under the ROC curve for finding the `positive` ones (bool [n]) among the high scores."""

    def merit(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
        hit, miss = _by_score(scores, positive, weights)
        below = miss.cumsum(1) - miss / 2  # half of the ties
        return _ratio((hit * below).sum(1), hit.sum(1) * miss.sum(1))

    return merit


def average_precision_for(positive: np.ndarray) -> Merit:
    """Average precision for finding the `positive` ones (bool [n]): precision at every threshold, by recall gained."""

    def merit(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
        hit, miss = (part[:, ::-1] for part in _by_score(scores, positive, weights))
        found, called = hit.cumsum(1), (hit + miss).cumsum(1)
        precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
        return _ratio((hit * precision).sum(1), hit.sum(1))

    return merit


def _by_score(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight of the positive and of the other examples at every distinct score, the lowest first."""
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    sorted_weights, flags = weights[:, order], positive[order].astype(np.float64)
    hit = np.add.reduceat(sorted_weights * flags, starts, axis=1)
    return hit, np.add.reduceat(sorted_weights, starts, axis=1) - hit


def _correlation(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Pearson's correlation of x [n] and y [n] under every row of weights; 0 where one does not vary."""
    x, y = x - x.mean(), y - y.mean()
    sums = weights @ np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)
    total, sx, sy, sxx, syy, sxy = sums.T
    covariance = sxy - sx * sy / total
    spread = np.sqrt(np.clip(sxx - sx * sx / total, 0, None) * np.clip(syy - sy * sy / total, 0, None))
    return np.asarray(np.divide(covariance, spread, out=np.zeros_like(spread), where=spread > 0))


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b; NaN where b is 0: a resample without a single example of one kind says nothing."""
    return np.asarray(np.divide(a, b, out=np.full_like(a, np.nan), where=b > 0))
