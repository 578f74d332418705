"""Finding (ii) without the estimator: what ordinary networks are worth, retrained without (or only with) some examples.

By their held-out loss and accuracy. The loss is the finer measure (accuracy only sees what changes sides), and the one
whose unit influence has.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from study.analysis.intervals import over_seeds
from study.findings.effects import Effect, Where, compare_seeds
from study.findings.protocol import Evidence, Plain, plain

NONE, FLAGGED, ORACLE = "none", "flagged", "oracle"
MOST, LEAST, AT_RANDOM = "most_memorized", "least_memorized", "random"
BALANCED_MOST, BALANCED_LEAST, BALANCED = "balanced_most_memorized", "balanced_least_memorized", "balanced_random"
RETRAINED = "retrained"  # stands where other effects have their placement
WORDS = {
    MOST: "the most memorized",
    LEAST: "the least memorized",
    AT_RANDOM: "as many at random",
    BALANCED_MOST: "the most memorized of every class",
    BALANCED_LEAST: "the least memorized of every class",
    BALANCED: "as many of every class at random",
    FLAGGED: "those flagged as mislabelled",
    ORACLE: "the wrong labels themselves",
}


class Measure(NamedTuple):
    """How good a retrained network is: a column of `removal.csv`."""

    column: str
    words: str
    unit: str


ACCURACY = Measure("heldout_accuracy", "held-out accuracy", "accuracy")
LOSS = Measure("heldout_loss", "held-out loss", "nats")
MEASURES = (LOSS, ACCURACY)


class Pair(NamedTuple):
    """Two orders that are compared: what networks are without (or only with) `one`, minus the same of `other`."""

    action: str
    one: str
    other: str


ALONE = Pair("keep", BALANCED_MOST, BALANCED)
PAIRS = (
    Pair("remove", BALANCED_MOST, BALANCED),
    Pair("remove", BALANCED_MOST, BALANCED_LEAST),
    Pair("remove", MOST, AT_RANDOM),
    Pair("remove", MOST, LEAST),
    ALONE,
    Pair("keep", BALANCED_MOST, BALANCED_LEAST),
    Pair("remove", FLAGGED, AT_RANDOM),
)


def tell_more(removal: pd.DataFrame, scenario: str, fraction: float, confidence: float) -> Evidence | None:
    """P4: without the most memorized of every class, minus without others; None without such networks.

    Args:
        removal: the table of all retrained networks.
        scenario: the one whose labels are all real.
        fraction: of the examples that was removed.
        confidence: of the intervals.
    """
    pairs = PAIRS[:2]  # against random ones, against the least memorized
    found = [_effect(removal, LOSS, scenario, pair, fraction) for pair in pairs]
    parts = [part for part in found if part is not None]
    accuracy = _effect(removal, ACCURACY, scenario, pairs[0], fraction)
    if len(parts) < len(pairs) or accuracy is None:
        return None
    alone = _effect(removal, ACCURACY, scenario, ALONE, fraction)
    more = {"fraction": fraction, "alone": None if alone is None else _points(alone, confidence)._asdict()}
    return Evidence(tuple(parts), _points(accuracy, confidence), more)


def _points(accuracy: Effect, confidence: float) -> Plain:
    return plain(accuracy, "points of accuracy", confidence, scale=100.0)


def removal_effects(removal: pd.DataFrame, scenario: str) -> Iterator[Effect]:
    """Every pair of orders in one scenario, by loss and accuracy, at every fraction."""
    for measure in MEASURES:
        for pair in PAIRS:
            for fraction in difference_of(removal, measure, scenario, pair).columns:
                found = _effect(removal, measure, scenario, pair, float(fraction))
                if found is not None:
                    yield found


def _effect(removal: pd.DataFrame, measure: Measure, scenario: str, pair: Pair, fraction: float) -> Effect | None:
    difference = difference_of(removal, measure, scenario, pair)
    if fraction not in difference.columns:
        return None
    what = "without" if pair.action == "remove" else "with only"
    text = f"{measure.words} {what} {WORDS[pair.one]} minus {what} {WORDS[pair.other]}: {fraction:.3g} of the examples"
    where = Where(scenario, RETRAINED, "", text, measure.unit)
    return compare_seeds(where, difference[fraction].to_list())


def values_of(removal: pd.DataFrame, measure: Measure, scenario: str, action: str, order: str) -> pd.DataFrame:
    """The measure: one row a seed, one column a fraction."""
    chosen = removal[(removal["scenario"] == scenario) & (removal["action"] == action) & (removal["order"] == order)]
    return chosen.groupby(["seed", "fraction"])[measure.column].mean().unstack()


def difference_of(removal: pd.DataFrame, measure: Measure, scenario: str, pair: Pair) -> pd.DataFrame:
    """One order of a pair minus the other: one row a seed, one column a fraction that both have."""
    if pair.one == FLAGGED:
        return over_random(removal, measure, scenario, pair.one)
    one, other = (values_of(removal, measure, scenario, pair.action, order) for order in (pair.one, pair.other))
    shared = one.columns.intersection(other.columns)
    seeds = one.index.intersection(other.index)
    difference = one.loc[seeds, shared] - other.loc[seeds, shared]
    return difference.dropna(axis=1, how="any")


def over_random(removal: pd.DataFrame, measure: Measure, scenario: str, order: str) -> pd.DataFrame:
    """The measure without the examples of `order` minus without as many at random: one row a seed.

    How many `order` removes may differ between seeds; between the fractions removed at random (0 is everything kept)
    the measure is interpolated linearly. The one column is the mean fraction.
    """
    part = removal[(removal["scenario"] == scenario) & (removal["action"] == "remove")]
    whole = removal[(removal["scenario"] == scenario) & (removal["order"] == NONE)]
    values, fractions = {}, []
    for seed, rows in part[part["order"] == order].groupby("seed"):
        curve = pd.concat(
            [
                whole[whole["seed"] == seed].assign(fraction=0.0),
                part[(part["order"] == AT_RANDOM) & (part["seed"] == seed)],
            ]
        ).sort_values("fraction")
        if len(curve) < 2 or rows["fraction"].max() > curve["fraction"].max():
            continue
        at_random = np.interp(rows["fraction"], curve["fraction"], curve[measure.column])
        values[seed] = float((rows[measure.column] - at_random).mean())
        fractions.append(float(rows["fraction"].mean()))
    if not values:
        return pd.DataFrame()
    return pd.DataFrame({float(np.mean(fractions)): pd.Series(values)})


def removal_table(removal: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Held-out accuracy and loss (``measure``) of every order, action and fraction over the seeds."""
    keys = ["measure", "scenario", "action", "order", "fraction", "train"]
    frame = pd.concat([removal.assign(measure=of.column, value=removal[of.column]) for of in MEASURES])
    # Where the number of examples differs between seeds (flagged), their mean stands for it.
    by_size = frame.groupby(keys[:-1], sort=False)["train"].transform("mean").round().astype(int)
    return over_seeds(frame.assign(train=by_size), keys, confidence)


def cleansing_table(removal: pd.DataFrame) -> pd.DataFrame:
    """Held-out accuracy of each seed after dropping nothing, as many at random as are flagged, the flagged, the wrong:
    ``scenario``, ``dropped``, ``seed``, ``fraction``, ``heldout_accuracy``."""
    rows: list[tuple[str, str, int, float, float]] = []
    for name in removal.loc[removal["order"] == FLAGGED, "scenario"].unique():
        scenario = str(name)
        of = removal[(removal["scenario"] == scenario) & (removal["action"] == "remove")]
        gain = over_random(removal, ACCURACY, scenario, FLAGGED)
        for order in (NONE, FLAGGED, ORACLE):
            part = removal[(removal["scenario"] == scenario) & (removal["order"] == order)]
            for seed, values in part.groupby("seed")[["fraction", "heldout_accuracy"]].mean().iterrows():
                rows.append((scenario, order, int(str(seed)), float(values.iloc[0]), float(values.iloc[1])))
        flagged = of[of["order"] == FLAGGED].groupby("seed")[["fraction", "heldout_accuracy"]].mean()
        fraction, accuracy = flagged["fraction"].to_dict(), flagged["heldout_accuracy"].to_dict()
        for column in gain.columns:
            for seed, value in gain[column].items():
                rows.append((scenario, AT_RANDOM, int(str(seed)), float(fraction[seed]), float(accuracy[seed] - value)))
    return pd.DataFrame(rows, columns=["scenario", "dropped", "seed", "fraction", "heldout_accuracy"])
