"""The claims about easy and difficult examples, and the numbers of each group they are made of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from study.context import Run
from study.figures.groups import (
    GROUPS,
    RANDOM,
    RANDOM_DIFFICULT,
    RANDOM_EASY,
    REAL,
    REAL_DIFFICULT,
    REAL_EASY,
    assign_groups,
)
from study.figures.inputs import Inputs
from study.figures.intervals import Interval, interval, verdict
from study.params import FiguresParams

EARLY = 3  # epochs over which the speed of learning is taken
ENOUGH_TARGETS = 30  # below, the interval over seeds says nothing about other held-out examples: no claim on influence
_LEARNED = 0.5  # a group is learned once this share of it is right in the exposed network


def group_numbers(inputs: Inputs, runs: list[Run], settings: FiguresParams) -> tuple[dict[str, Any], dict[str, Any]]:
    """How fast each group is learned and what it does for the held-out examples; the claims built on that.

    Returns:
        For each group its ``size`` and the intervals of ``first_epoch``, ``speed``, ``epochs_to_learn`` and
        ``influence``; for each claim the interval of its ``difference`` and the ``verdict``.
    """
    of_seeds = [_of_run(inputs, run, settings.difficulty_quantile) for run in runs]
    names = [group for group in GROUPS if all(group in numbers for numbers in of_seeds)]
    groups = {
        group: {
            "size": int(of_seeds[0][group]["size"]),
            **{
                key: mean_of((numbers[group][key] for numbers in of_seeds), settings.confidence)
                for key in ("first_epoch", "speed", "epochs_to_learn", "influence")
            },
        }
        for group in names
    }
    claims: dict[str, Any] = {}
    for easy, difficult, kind in ((REAL_EASY, REAL_DIFFICULT, REAL), (RANDOM_EASY, RANDOM_DIFFICULT, RANDOM)):
        if easy not in names:
            continue
        claims[f"{kind}_together"] = _claim((n[difficult]["first_epoch"] for n in of_seeds), settings)
        claims[f"{kind}_easy_faster"] = _claim((n[easy]["speed"] - n[difficult]["speed"] for n in of_seeds), settings)
    if min(len(inputs.targets[run]) for run in runs) < ENOUGH_TARGETS:
        return groups, claims
    if REAL_EASY in names:
        claims["real_difficult_tell_more"] = _claim(
            (n[REAL_DIFFICULT]["influence"] - n[REAL_EASY]["influence"] for n in of_seeds), settings
        )
    if RANDOM in names:
        # Harm is influence below 0, so the claim is about its negative.
        claims["random_harm"] = _claim((-n[RANDOM]["influence"] for n in of_seeds), settings)
    return groups, claims


def entry(found: Interval) -> dict[str, Any]:
    """An interval as `summary.json` holds it."""
    return {"mean": found.mean, "half_width": found.half_width, "n": found.n}


def mean_of(values: Iterable[float], confidence: float) -> dict[str, Any] | None:
    """Mean and interval of the values that are there; None where none is."""
    present = [float(value) for value in values if not np.isnan(value)]
    return entry(interval(present, confidence)) if present else None


def _claim(differences: Iterable[float], settings: FiguresParams) -> dict[str, Any] | None:
    values = [value for value in differences if not np.isnan(value)]
    if not values:
        return None
    found = interval(values, settings.confidence)
    return {"difference": entry(found), "verdict": verdict(found)}


def _of_run(inputs: Inputs, run: Run, quantile: float) -> dict[str, dict[str, float]]:
    """For each group: its size, the decrease of the exposed loss an epoch until the first recorded one and over the
    early ones, the first recorded epoch at which it is learned (NaN: never), mean total influence of its examples."""
    group = assign_groups(inputs.scenarios[run.scenario].examples, inputs.difficulty(run), quantile)
    frame = inputs.dynamics[run]
    frame = frame.assign(group=frame["id"].map(group)).dropna(subset="group")
    means = frame.groupby(["group", "epoch"])[["loss_exposed", "correct_exposed"]].mean().reset_index()
    totals = inputs.totals[run].assign(group=lambda table: table["id"].map(group))
    found = {}
    for name in group.unique():
        curve = means[means["group"] == name].sort_values("epoch")
        epochs = curve["epoch"].to_numpy(np.float64)
        loss = curve["loss_exposed"].to_numpy(np.float64)
        decrease = (loss[0] - loss[1:]) / (epochs[1:] - epochs[0])
        early = max(0, int((epochs[1:] <= EARLY).sum()) - 1)
        learned = epochs[curve["correct_exposed"].to_numpy(np.float64) >= _LEARNED]
        found[str(name)] = {
            "size": float((group == name).sum()),
            "first_epoch": float(decrease[0]) if len(decrease) else np.nan,
            "speed": float(decrease[early]) if len(decrease) else np.nan,
            "epochs_to_learn": float(learned[0]) if len(learned) else np.nan,
            "influence": float(totals.loc[totals["group"] == name, "total"].astype(np.float64).mean()),
        }
    return found
