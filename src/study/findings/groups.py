"""Who is easy and who is difficult, by two definitions, judged by other seeds than the one looked at."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from study.analysis.groups import assign_groups, difficulty
from study.context.runs import Run
from study.findings.inputs import Study

MEMORIZATION, FIRST_LEARNED = "memorization", "first-learned epoch"
DEFINITIONS = (MEMORIZATION, FIRST_LEARNED)


def first_learned(frame: pd.DataFrame) -> pd.Series[float]:
    """The first recorded epoch at which each example is right in its exposed network, by id.

    Epoch 0, the untrained network, does not count. Never learned: one more than the last epoch.
    """
    right = _right(frame)
    last = float(max(right.columns))
    epochs = np.array(right.columns, np.float64)
    values = np.where(right.to_numpy(), epochs, last + 1).min(1)
    return pd.Series(values, index=right.index)


def finally_learned(frame: pd.DataFrame) -> pd.Series[float]:
    """The first recorded epoch from which on each example stays right until the end; never: one more than the last."""
    right = _right(frame)
    epochs = np.array(right.columns, np.float64)
    # Right from here to the end: the running minimum from behind.
    stays = np.minimum.accumulate(right.to_numpy()[:, ::-1], axis=1)[:, ::-1]
    return pd.Series(np.where(stays, epochs, epochs[-1] + 1).min(1), index=right.index)


def _right(frame: pd.DataFrame) -> pd.DataFrame:
    """Right in the exposed network or not: one row an example, one column a recorded epoch from 1 on."""
    trained = frame[frame["epoch"] > 0]
    return trained.pivot(index="id", columns="epoch", values="correct_exposed").astype(bool)


def of_other_seeds(values: Mapping[int, pd.Series[float]], seed: int) -> pd.Series[float]:
    """Mean over the seeds other than `seed`; its own if it is the only one."""
    others = [value for of, value in values.items() if of != seed] or [values[seed]]
    mean: pd.Series[float] = pd.concat(others, axis=1).mean(axis=1)
    return mean


def difficulties(study: Study, scenario: str, placement: str) -> dict[tuple[str, int], pd.Series[float]]:
    """Difficulty of every training example by (definition, seed)."""
    runs = study.runs(scenario, placement)
    tables = {run.seed: study.memorization[run] for run in runs}
    learned = {run.seed: first_learned(study.dynamics[run]) for run in runs}
    found = {}
    for seed in study.seeds:
        by_memorization = difficulty(tables, seed)
        found[MEMORIZATION, seed] = by_memorization
        found[FIRST_LEARNED, seed] = of_other_seeds(learned, seed).loc[by_memorization.index]
    return found


def group_of(study: Study, run: Run, difficulty: pd.Series[float], quantile: float) -> pd.Series[str]:
    """The group of each example that is in one, by id."""
    return assign_groups(study.scenarios[run.scenario].examples, difficulty, quantile)
