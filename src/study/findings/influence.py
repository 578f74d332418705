"""Claim 2 by the estimates: does a correct difficult example do more for held-out examples than an easy one?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from study.analysis.groups import RANDOM, REAL_DIFFICULT, REAL_EASY
from study.analysis.intervals import entry, interval
from study.context.runs import Run
from study.findings.inputs import Study
from study.findings.learning import Setting
from study.findings.testing import BOOTSTRAP, Comparison, draw_effects, tails

ENOUGH_TARGETS = 30  # below, nothing can be said about other held-out examples
TOTALS = {"total": "all held-out examples", "total_same_class": "the held-out examples of its own label"}


def compare_influence(study: Study, setting: Setting) -> Iterator[Comparison]:
    """Difficult against easy where every label is real; randomly labelled examples against none elsewhere."""
    runs = study.runs(setting.scenario, setting.placement)
    if min(study.targets[run] for run in runs) < ENOUGH_TARGETS:
        return
    every_label_real = not study.scenarios[setting.scenario].of("train")["is_random"].any()
    for column, of in TOTALS.items():
        values = np.stack([_totals(study, run, setting.ids, column) for run in runs])
        if every_label_real:
            for definition, group in setting.groups.items():
                text = f"influence on {of}, {REAL_DIFFICULT} minus {REAL_EASY}"
                plus, minus = group == REAL_DIFFICULT, group == REAL_EASY
                effects = [row[a].mean() - row[b].mean() for row, a, b in zip(values, plus, minus, strict=True)]
                yield _comparison(setting, "tell_more", definition, text, effects, values, plus, minus)
        random = next(iter(setting.groups.values())) == RANDOM
        if random.any() and column == "total":
            # Harm is influence below 0, so the claim is about its negative.
            effects = [-row[chosen].mean() for row, chosen in zip(values, random, strict=True)]
            text = f"harm (negative influence) to {of} by one randomly labelled example"
            yield _comparison(setting, "random_harm", "", text, effects, -values, random, None)


def placebo_influence(study: Study, confidence: float) -> dict[str, dict[str, Any]]:
    """Mean total influence of the placebos, by scenario and placement: what comes out where there is nothing."""
    found: dict[str, dict[str, Any]] = {}
    for scenario, placement in study.settings():
        runs = study.runs(scenario, placement)
        if min(len(study.placebo[run]) for run in runs) and min(study.targets[run] for run in runs) >= ENOUGH_TARGETS:
            means = [float(study.placebo[run]["total"].mean()) for run in runs]
            found.setdefault(scenario, {})[placement] = entry(interval(means, confidence))
    return found


def _comparison(
    setting: Setting, claim: str, definition: str, of: str, effects: list[float], values: np.ndarray,
    plus: np.ndarray, minus: np.ndarray | None,
) -> Comparison:  # fmt: skip
    p, p_below = tails(draw_effects(values, plus, minus))
    members = int(plus[0].sum() + (minus[0].sum() if minus is not None else 0))
    return Comparison(
        claim, setting.scenario, setting.placement, definition, of, "nats",
        tuple(float(e) for e in effects), members, BOOTSTRAP, p, p_below,
    )  # fmt: skip


def _totals(study: Study, run: Run, ids: np.ndarray, column: str) -> np.ndarray:
    table: pd.DataFrame = study.totals[run].set_index("id")
    return table[column].loc[ids].to_numpy(np.float64)
