"""Placebo calibration: how often an example that no network trained on is called memorized."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from study.artefacts.kept import Result
from study.validation.ours import memorization
from study.validation.rows import doublings, mean
from study.validation.settings import Problem
from turnover.scoring.calibration import empirical_p_values

LEVELS = (0.01, 0.05, 0.1)


def calibration(problem: Problem, runs: Sequence[Result]) -> list[dict[str, Any]]:
    """False-positive rates of memorization at nominal levels, and the share of real and wrong labels called memorized.

    One half of the placebos, drawn at random, is the null distribution, the other half is tested: by exchangeability
    the rate is at most the level, unless placebos differ from each other by more than chance. Repeated over many
    splits. The training examples are called by all placebos together.

    Returns:
        One entry for each number of runs, measure, time (final or averaged over training) and level.
    """
    watched, train, wrong = len(problem.watched), len(problem.train), problem.wrong
    found: list[dict[str, Any]] = []
    if watched - train < 2:
        return found
    for size, measure, averaged in product(doublings(len(runs)), ("loss", "probability"), (False, True)):
        scores = mean([memorization(run, measure, averaged, watched) for run in runs[:size]])
        rates = _rates(scores[train:], problem.settings.placebo_splits)
        p = empirical_p_values(scores[:train], scores[train:])
        for level, rate in zip(LEVELS, rates, strict=True):
            called = p <= level
            found.append(
                {
                    "networks": size,
                    "measure": measure,
                    "averaged": averaged,
                    "level": level,
                    "placebos_called": round(rate, 6),
                    "right_labels_called": round(float(called[~wrong].mean()), 6),
                    "wrong_labels_called": round(float(called[wrong].mean()), 6) if wrong.any() else None,
                }
            )
    return found


def _rates(placebo: np.ndarray, splits: int) -> list[float]:
    """Mean share over `splits` of the tested half whose p-value is at most each level."""
    rng = np.random.default_rng(0)
    half = len(placebo) // 2
    totals = np.zeros(len(LEVELS))
    for _ in range(splits):
        order = rng.permutation(len(placebo))
        p = empirical_p_values(placebo[order[half:]], placebo[order[:half]])
        totals += [(p <= level).mean() for level in LEVELS]
    return [float(total) / splits for total in totals]
