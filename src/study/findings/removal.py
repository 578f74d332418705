"""Claim 2 without the estimator: the accuracy of ordinary networks retrained without (or only with) some examples."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from study.figures.intervals import over_seeds
from study.findings.testing import T_TEST, Comparison, t_test

NONE, MOST, LEAST = "none", "most_memorized", "least_memorized"
AT_RANDOM, BALANCED, FLAGGED, ORACLE = "random", "balanced_random", "flagged", "oracle"
RETRAINED = "retrained"  # stands where other comparisons have their placement
WORDS = {
    MOST: "the most memorized",
    LEAST: "the least memorized",
    AT_RANDOM: "as many at random",
    BALANCED: "as many at random, balanced by class",
    FLAGGED: "those flagged as mislabelled",
    ORACLE: "the wrong labels themselves",
}


def accuracies(removal: pd.DataFrame, scenario: str, action: str, order: str) -> pd.DataFrame:
    """Held-out accuracy: one row a seed, one column a fraction."""
    chosen = removal[(removal["scenario"] == scenario) & (removal["action"] == action) & (removal["order"] == order)]
    return chosen.pivot_table(index="seed", columns="fraction", values="heldout_accuracy")


def compare_removal(removal: pd.DataFrame, scenario: str, noisy: bool) -> Iterator[Comparison]:
    """The comparisons of one scenario; `noisy`: some of its labels are random.

    Paired over the seeds, at every fraction that both orders have, and for the mean over the fractions first.
    """
    pairs: tuple[tuple[str, str, str, str], ...]
    if noisy:
        pairs = (
            ("turns_round", "remove", MOST, AT_RANDOM),
            ("turns_round", "remove", MOST, LEAST),
            ("cleansing", "remove", FLAGGED, AT_RANDOM),
        )
    else:
        pairs = (
            ("removal", "remove", LEAST, MOST),
            ("removal", "remove", AT_RANDOM, MOST),
            ("keeping", "keep", MOST, LEAST),
            ("keeping", "keep", MOST, AT_RANDOM),
        )
    for claim, action, better, worse in pairs:
        if better == FLAGGED:
            difference = over_random(removal, scenario, better)
        else:
            difference = paired_difference(removal, scenario, action, better, worse)
        if difference.empty:
            continue
        sizes = list(difference.columns)
        at = ", ".join(_percent(fraction) for fraction in sizes)
        parts = [(f"mean over {at}", difference.mean(axis=1))] if len(sizes) > 1 else []
        parts += [(_percent(fraction), difference[fraction]) for fraction in sizes]
        what = "without" if action == "remove" else "with only"
        for share, values in parts:
            effects = tuple(float(value) for value in values)
            p, p_below = t_test(effects)
            text = f"held-out accuracy {what} {WORDS[better]} minus {what} {WORDS[worse]}: {share} of the examples"
            yield Comparison(claim, scenario, RETRAINED, "", text, "accuracy", effects, 0, T_TEST, p, p_below)


def _percent(fraction: object) -> str:
    return f"{100 * float(str(fraction)):.3g} %"


def paired_difference(removal: pd.DataFrame, scenario: str, action: str, better: str, worse: str) -> pd.DataFrame:
    """Accuracy of one order minus that of the other: one row a seed, one column a fraction that both have."""
    one, other = (accuracies(removal, scenario, action, order) for order in (better, worse))
    shared = one.columns.intersection(other.columns)
    seeds = one.index.intersection(other.index)
    difference = one.loc[seeds, shared] - other.loc[seeds, shared]
    return difference.dropna(axis=1, how="any")


def over_random(removal: pd.DataFrame, scenario: str, order: str) -> pd.DataFrame:
    """Accuracy without the examples of `order` minus without as many at random: one row a seed, one column.

    How many `order` removes may differ between seeds; between the fractions removed at random (0 is everything kept)
    their accuracy is interpolated linearly. The column is the mean fraction.
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
        at_random = np.interp(rows["fraction"], curve["fraction"], curve["heldout_accuracy"])
        values[seed] = float((rows["heldout_accuracy"] - at_random).mean())
        fractions.append(float(rows["fraction"].mean()))
    if not values:
        return pd.DataFrame()
    return pd.DataFrame({float(np.mean(fractions)): pd.Series(values)})


def removal_table(removal: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Held-out accuracy of every order, action and fraction over the seeds."""
    keys = ["scenario", "action", "order", "fraction", "train"]
    frame = removal.assign(value=removal["heldout_accuracy"])
    # Where the number of examples differs between seeds (flagged), their mean stands for it.
    by_size = frame.groupby(keys[:-1], sort=False)["train"].transform("mean").round().astype(int)
    return over_seeds(frame.assign(train=by_size), keys, confidence)


def difference_table(removal: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Accuracy without the least minus without the most memorized at each fraction: where the effect turns round."""
    rows = []
    for scenario in removal["scenario"].unique():
        for action in ("remove", "keep"):
            better, worse = (LEAST, MOST) if action == "remove" else (MOST, LEAST)
            found = paired_difference(removal, str(scenario), action, better, worse)
            for fraction in found.columns:
                rows += [(scenario, action, float(fraction), float(value)) for value in found[fraction]]
    keys = ["scenario", "action", "fraction"]
    return over_seeds(pd.DataFrame(rows, columns=[*keys, "value"]), keys, confidence)


def turning_point(differences: pd.DataFrame, scenario: str) -> float | None:
    """The smallest removed fraction from which on the least memorized are the better ones to remove; None: never."""
    part = differences[(differences["scenario"] == scenario) & (differences["action"] == "remove")]
    part = part.sort_values("fraction")
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
        gain = over_random(removal, scenario, FLAGGED)
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
