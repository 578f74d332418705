"""Means over seeds with their t-intervals, how the JSON files hold them, and what is said of the seeds."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats


@dataclass(frozen=True)
class Interval:
    """A mean over `n` seeds; `half_width` is half the t-interval, None where one seed gives none."""

    mean: float
    half_width: float | None
    n: int

    @property
    def low(self) -> float:
        return self.mean - (self.half_width or 0.0)

    @property
    def high(self) -> float:
        return self.mean + (self.half_width or 0.0)

    @property
    def entry(self) -> dict[str, Any]:
        """As the JSON files hold it."""
        return {"mean": self.mean, "half_width": self.half_width, "n": self.n}


def interval(values: Iterable[float], confidence: float) -> Interval:
    """Mean and t-interval of one value a seed; missing values (NaN) are left out.

    Raises:
        ValueError: there is no value.
    """
    return intervals([values], confidence)[0]


def intervals(samples: Sequence[Iterable[float]], confidence: float) -> list[Interval]:
    """`interval` of many samples at once; as many calls of scipy as there are different sizes.

    Raises:
        ValueError: a sample has no value.
    """
    arrays = [np.asarray(list(values), np.float64) for values in samples]
    arrays = [values[~np.isnan(values)] for values in arrays]
    sizes = np.array([len(values) for values in arrays], int)
    if (sizes == 0).any():
        raise ValueError("an interval needs at least one value")
    half = np.full(len(arrays), np.nan)
    for size in np.unique(sizes[sizes > 1]):
        rows = np.flatnonzero(sizes == size)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of seeds that agree: their interval is a point
            test = stats.ttest_1samp(np.stack([arrays[row] for row in rows]), 0.0, axis=1)
            low, high = test.confidence_interval(confidence)
        half[rows] = (high - low) / 2
    return [
        Interval(float(values.mean()), None if np.isnan(width) else float(width), len(values))
        for values, width in zip(arrays, half, strict=True)
    ]


def over_seeds(frame: pd.DataFrame, by: list[str], confidence: float) -> pd.DataFrame:
    """Columns ``mean``, ``low``, ``high``, ``seeds`` of column ``value`` for each combination of `by`, in order."""
    groups = list(frame.groupby(by, sort=False, observed=True)["value"])
    found = intervals([values for _, values in groups], confidence)
    rows = [(*key, of.mean, of.low, of.high, of.n) for (key, _), of in zip(groups, found, strict=True)]
    return pd.DataFrame(rows, columns=[*by, "mean", "low", "high", "seeds"])


def entry(values: Iterable[float], confidence: float) -> dict[str, Any]:
    """`interval`, as the JSON files hold it."""
    return interval(values, confidence).entry


def mean_of(values: Iterable[float], confidence: float) -> dict[str, Any] | None:
    """The same of the values that are there; None where none is."""
    present = [value for value in values if not np.isnan(value)]
    return entry(present, confidence) if present else None


def rounded(value: Any) -> Any:
    """Six significant digits, everywhere."""
    if isinstance(value, dict):
        return {key: rounded(of) for key, of in value.items()}
    if isinstance(value, list):
        return [rounded(of) for of in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def seeds_in_words(seeds: Mapping[str, list[int]]) -> str:
    """How many seeds the placements have, such as ``3 seeds`` or ``5 seeds for placement head, 3 for the others``."""
    (first, most), *others = ((placement, len(of)) for placement, of in seeds.items())
    counts = {count for _, count in others}
    words = "one seed" if most == 1 else f"{most} seeds"
    if counts <= {most}:
        return words
    if len(counts) == 1 and len(others) > 1:
        return f"{words} for placement {first}, {counts.pop()} for the others"
    return f"{words} for placement {first}, " + ", ".join(f"{count} for {placement}" for placement, count in others)


def difficulty_from(seeds: Mapping[str, list[int]]) -> str:
    """Whose memorization says who is difficult, by the seeds of the placements."""
    alone = [placement for placement, of in seeds.items() if len(of) == 1]
    if not alone:
        return "the other seeds"
    if len(alone) == len(seeds):
        return "the only seed itself"
    return f"the other seeds (of placement {' and '.join(alone)}, the only seed itself)"
