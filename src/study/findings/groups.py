"""Who is easy and who is difficult, by two definitions, judged by other seeds than the one looked at."""

from __future__ import annotations

import numpy as np
import pandas as pd

from study.analysis.groups import of_other_seeds
from study.analysis.inputs import Study
from study.context.runs import Run

MEMORIZATION, FIRST_LEARNED = "memorization", "first-learned epoch"
DEFINITIONS = (MEMORIZATION, FIRST_LEARNED)


def first_learned(frame: pd.DataFrame) -> pd.Series[float]:
    """The first recorded epoch at which each example is right in its exposed network, by id.

    Epoch 0, the untrained network, does not count. Never learned: one more than the last epoch.
    """
    right = _right(frame)
    return _first(right, right.to_numpy())


def finally_learned(frame: pd.DataFrame) -> pd.Series[float]:
    """The first recorded epoch from which on each example stays right until the end; never: one more than the last."""
    right = _right(frame)
    # Right from here to the end: the running minimum from behind.
    return _first(right, np.minimum.accumulate(right.to_numpy()[:, ::-1], axis=1)[:, ::-1])


def _right(frame: pd.DataFrame) -> pd.DataFrame:
    """Right in the exposed network or not: one row an example, one column a recorded epoch from 1 on."""
    trained = frame[frame["epoch"] > 0]
    return trained.pivot(index="id", columns="epoch", values="correct_exposed").astype(bool)


def _first(right: pd.DataFrame, happened: np.ndarray) -> pd.Series[float]:
    epochs = np.array(right.columns, np.float64)
    return pd.Series(np.where(happened, epochs, epochs[-1] + 1).min(1), index=right.index)


def difficulties(study: Study, runs: list[Run]) -> dict[tuple[str, int], pd.Series[float]]:
    """Difficulty of every training example by (definition, seed), within one scenario and placement."""
    learned = {run.seed: first_learned(study.dynamics[run]) for run in runs}
    found = {}
    for run in runs:
        found[MEMORIZATION, run.seed] = by_memorization = study.difficulty(run)
        found[FIRST_LEARNED, run.seed] = of_other_seeds(learned, run.seed).loc[by_memorization.index]
    return found
