"""Claim 2 without the estimator: what ordinary networks are worth, retrained without (or only with) some examples.

By their held-out accuracy and by their held-out loss. The loss is the finer measure (accuracy only sees what changes
sides), and the one whose unit influence has.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from study.analysis.intervals import over_seeds
from study.findings.testing import T_TEST, Comparison, t_test

NONE, FLAGGED, ORACLE = "none", "flagged", "oracle"
MOST, LEAST, AT_RANDOM = "most_memorized", "least_memorized", "random"
BALANCED_MOST, BALANCED_LEAST, BALANCED = "balanced_most_memorized", "balanced_least_memorized", "balanced_random"
RETRAINED = "retrained"  # stands where other comparisons have their placement
WORDS = {
    MOST: "the most memorized",
    LEAST: "the least memorized",
    AT_RANDOM: "as many at random",
    BALANCED_MOST: "the most memorized of each class",
    BALANCED_LEAST: "the least memorized of each class",
    BALANCED: "as many of each class at random",
    FLAGGED: "those flagged as mislabelled",
    ORACLE: "the wrong labels themselves",
}


class Measure(NamedTuple):
    """How good a retrained network is: a column of `removal.csv`, and what its claims add to their key."""

    column: str
    words: str
    unit: str
    sign: float  # of the column, so that more is better
    suffix: str


MEASURES = (
    Measure("heldout_accuracy", "held-out accuracy", "accuracy", 1.0, ""),
    Measure("heldout_loss", "held-out loss", "nats", -1.0, "_loss"),
)
ACCURACY = MEASURES[0]


class Pair(NamedTuple):
    """Two orders that a claim compares; what is removed (or kept alone) by `better` should leave the better network."""

    claim: str
    noisy: bool  # tested where some labels are random; else where all are real
    action: str
    better: str
    worse: str


PAIRS = (
    Pair("removal", False, "remove", LEAST, MOST),
    Pair("removal", False, "remove", AT_RANDOM, MOST),
    Pair("removal", False, "remove", BALANCED_LEAST, BALANCED_MOST),
    Pair("removal", False, "remove", BALANCED, BALANCED_MOST),
    Pair("keeping", False, "keep", MOST, LEAST),
    Pair("keeping", False, "keep", MOST, AT_RANDOM),
    Pair("keeping", False, "keep", BALANCED_MOST, BALANCED_LEAST),
    Pair("keeping", False, "keep", BALANCED_MOST, BALANCED),
    Pair("turns_round", True, "remove", MOST, AT_RANDOM),
    Pair("turns_round", True, "remove", MOST, LEAST),
    Pair("turns_round", True, "remove", BALANCED_MOST, BALANCED),
    Pair("turns_round", True, "remove", BALANCED_MOST, BALANCED_LEAST),
    Pair("cleansing", True, "remove", FLAGGED, AT_RANDOM),
)


def values_of(removal: pd.DataFrame, measure: Measure, scenario: str, action: str, order: str) -> pd.DataFrame:
    """The measure, more is better: one row a seed, one column a fraction."""
    chosen = removal[(removal["scenario"] == scenario) & (removal["action"] == action) & (removal["order"] == order)]
    return measure.sign * chosen.groupby(["seed", "fraction"])[measure.column].mean().unstack()


def compare_removal(removal: pd.DataFrame, scenario: str, noisy: bool) -> Iterator[Comparison]:
    """The comparisons of one scenario; `noisy`: some of its labels are random.

    Paired over the seeds, for the mean over all fractions that both orders have: one test a pair. Single fractions are
    in `difference_table`, as description. Balanced orders are compared with balanced ones.
    """
    for measure in MEASURES:
        for pair in PAIRS:
            difference = difference_of(removal, measure, scenario, pair)
            if pair.noisy != noisy or difference.empty:
                continue
            effects = tuple(float(value) for value in difference.mean(axis=1))
            p, p_below = t_test(effects)
            # The one that should have more stands first: more accuracy without the better ones to remove, less loss.
            first, second = (pair.better, pair.worse) if measure.sign > 0 else (pair.worse, pair.better)
            what = "without" if pair.action == "remove" else "with only"
            at = ", ".join(f"{100 * fraction:.3g} %" for fraction in difference.columns)
            text = f"{measure.words} {what} {WORDS[first]} minus {what} {WORDS[second]}: " + (
                f"mean over {at} of the examples" if len(difference.columns) > 1 else f"{at} of the examples"
            )
            key = pair.claim + measure.suffix
            yield Comparison(key, scenario, RETRAINED, "", text, measure.unit, effects, 0, T_TEST, p, p_below)


def difference_of(removal: pd.DataFrame, measure: Measure, scenario: str, pair: Pair) -> pd.DataFrame:
    """By how much the better order of a pair is better: one row a seed, one column a fraction that both have."""
    if pair.better == FLAGGED:
        return over_random(removal, measure, scenario, pair.better)
    one, other = (values_of(removal, measure, scenario, pair.action, order) for order in (pair.better, pair.worse))
    shared = one.columns.intersection(other.columns)
    seeds = one.index.intersection(other.index)
    difference = one.loc[seeds, shared] - other.loc[seeds, shared]
    return difference.dropna(axis=1, how="any")


def over_random(removal: pd.DataFrame, measure: Measure, scenario: str, order: str) -> pd.DataFrame:
    """By how much it is better without the examples of `order` than without as many at random: one row a seed.

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
        values[seed] = measure.sign * float((rows[measure.column] - at_random).mean())
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


def difference_table(removal: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """By how much the better order of every pair is better, in every scenario and at each fraction, over the seeds."""
    rows = []
    for measure in MEASURES:
        for scenario in removal["scenario"].unique():
            for pair in PAIRS:
                found = difference_of(removal, measure, str(scenario), pair)
                for fraction in found.columns:
                    at = (measure.column, scenario, pair.action, pair.better, pair.worse, float(fraction))
                    rows += [(*at, float(value)) for value in found[fraction]]
    keys = ["measure", "scenario", "action", "better", "worse", "fraction"]
    return over_seeds(pd.DataFrame(rows, columns=[*keys, "value"]), keys, confidence)


def turning_point(differences: pd.DataFrame, scenario: str) -> float | None:
    """The smallest removed fraction from which on the least memorized are the better ones to remove, by accuracy; None:
    never."""
    chosen = {"measure": ACCURACY.column, "scenario": scenario, "action": "remove", "better": LEAST, "worse": MOST}
    part = differences[(differences[list(chosen)] == pd.Series(chosen)).all(axis=1)].sort_values("fraction")
    positive = part["mean"].to_numpy() > 0
    if not len(part) or not positive[-1]:
        return None
    stays = np.minimum.accumulate(positive[::-1])[::-1]
    return float(part["fraction"].to_numpy()[np.argmax(stays)])


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
