"""Groups of examples: easy and difficult, real and random, placebo.

Who is easy and who is difficult in one seed is decided by the *other* seeds. Otherwise the noise of one network's
estimate would choose the groups and then be seen again as a difference between them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

REAL_EASY, REAL_DIFFICULT = "real easy", "real difficult"
RANDOM_EASY, RANDOM_DIFFICULT = "random easy", "random difficult"
REAL, RANDOM, PLACEBO = KINDS = ("real", "random", "placebo")  # as column `kind` of a scenario's examples says
GROUPS = (REAL_EASY, REAL_DIFFICULT, RANDOM, RANDOM_EASY, RANDOM_DIFFICULT, PLACEBO)
WRONG = "wrongly labelled"  # random, and not right by chance
HELDOUT = "held-out"  # in neither mask: known to the full network only


def of_other_seeds(values: Mapping[int, pd.Series[float]], seed: int) -> pd.Series[float]:
    """Mean over the seeds other than `seed` of one value an example; its own if it is the only one."""
    others = [value for of, value in values.items() if of != seed] or [values[seed]]
    mean: pd.Series[float] = pd.concat(others, axis=1).mean(axis=1)
    return mean


def difficulty(tables: Mapping[int, pd.DataFrame], seed: int) -> pd.Series[float]:
    """Mean memorization (probability measure) of every training example over the seeds other than `seed`.

    Args:
        tables: the memorization table of every seed: ``id``, ``split``, ``probability``.
        seed: whose groups are wanted. If it is the only one, its own memorization has to do.

    Returns:
        One value an example, indexed by id in ascending order.
    """
    return of_other_seeds({of: _memorized(table) for of, table in tables.items()}, seed)


def _memorized(table: pd.DataFrame) -> pd.Series[float]:
    return table.loc[table["split"] == "train"].set_index("id")["probability"].sort_index().astype(float)


def easy_and_difficult(values: pd.Series[float], quantile: float) -> tuple[pd.Index[int], pd.Index[int]]:
    """Ids of the least and of the most memorized `quantile` of the examples; ties go by id."""
    ordered = values.sort_index().sort_values(kind="stable")
    count = round(quantile * len(ordered))
    return ordered.index[:count], ordered.index[len(ordered) - count :]


def assign_groups(examples: pd.DataFrame, difficulty: pd.Series[float], quantile: float) -> pd.Series[str]:
    """The group of each example that is in one, indexed by id.

    Easy and difficult are quantiles among the real training examples. Random ones are one group, but where all
    labels are random they too divide into easy and difficult. The examples between easy and difficult are in no group.
    """
    real, random, placebo = (pd.Index(examples.loc[examples["kind"] == kind, "id"]) for kind in KINDS)
    named = {PLACEBO: placebo}
    if len(real):
        named[REAL_EASY], named[REAL_DIFFICULT] = easy_and_difficult(difficulty.loc[real], quantile)
        named[RANDOM] = random
    else:
        named[RANDOM_EASY], named[RANDOM_DIFFICULT] = easy_and_difficult(difficulty.loc[random], quantile)
    return pd.Series({int(id_): name for name, ids in named.items() for id_ in ids}, dtype="object").sort_index()


def deciles(values: pd.Series[float]) -> pd.Series[int]:
    """The decile of each value, 1 = least to 10 = most; ties go by id."""
    ordered = values.sort_index().sort_values(kind="stable")
    return pd.Series(np.arange(len(ordered)) * 10 // len(ordered) + 1, index=ordered.index).sort_index()
