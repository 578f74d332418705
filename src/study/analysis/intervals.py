"""Means over seeds with their t-intervals, and how the JSON files hold them."""

from __future__ import annotations

import math
from collections.abc import Iterable
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


def interval(values: Iterable[float], confidence: float) -> Interval:
    """Mean and t-interval of one value a seed; missing values (NaN) are left out.

    Raises:
        ValueError: there is no value.
    """
    found = np.asarray([float(value) for value in values if not math.isnan(float(value))], dtype=np.float64)
    if not len(found):
        raise ValueError("an interval needs at least one value")
    if len(found) == 1:
        return Interval(float(found[0]), None, 1)
    spread = float(found.std(ddof=1)) / math.sqrt(len(found))
    return Interval(float(found.mean()), float(stats.t.ppf((1 + confidence) / 2, len(found) - 1)) * spread, len(found))


def over_seeds(frame: pd.DataFrame, by: list[str], confidence: float) -> pd.DataFrame:
    """Columns ``mean``, ``low``, ``high``, ``seeds`` of column ``value`` for each combination of `by`, in order."""
    rows = []
    for key, part in frame.groupby(by, sort=False, observed=True):
        found = interval(part["value"], confidence)
        rows.append(
            {
                **dict(zip(by, key, strict=True)),
                "mean": found.mean,
                "low": found.low,
                "high": found.high,
                "seeds": found.n,
            }
        )
    return pd.DataFrame(rows, columns=[*by, "mean", "low", "high", "seeds"])


def entry(found: Interval) -> dict[str, Any]:
    """An interval as the JSON files hold it."""
    return {"mean": found.mean, "half_width": found.half_width, "n": found.n}


def mean_of(values: Iterable[float], confidence: float) -> dict[str, Any] | None:
    """Mean and interval of the values that are there; None where none is."""
    present = [float(value) for value in values if not np.isnan(value)]
    return entry(interval(present, confidence)) if present else None


def rounded(value: Any) -> Any:
    """Six significant digits, everywhere."""
    if isinstance(value, dict):
        return {key: rounded(of) for key, of in value.items()}
    if isinstance(value, list):
        return [rounded(of) for of in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
