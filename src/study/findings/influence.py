"""Claim 2 by the estimates: does a correct difficult example do more for held-out examples than an easy one?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from study.analysis.groups import RANDOM, REAL_DIFFICULT, REAL_EASY
from study.analysis.inputs import Study
from study.analysis.intervals import entry
from study.findings.learning import Setting, totals_of
from study.findings.testing import Comparison, compare_groups

ENOUGH_TARGETS = 30  # below, nothing can be said about other held-out examples
TOTALS = {"total": "all held-out examples", "total_same_class": "the held-out examples of its own label"}


def compare_influence(study: Study, setting: Setting) -> Iterator[Comparison]:
    """Difficult against easy where every label is real; randomly labelled examples against none elsewhere."""
    if _targets(study, setting.scenario, setting.placement) < ENOUGH_TARGETS:
        return
    every_label_real = not study.scenarios[setting.scenario].of("train")["is_random"].any()
    random = next(iter(setting.groups.values())) == RANDOM
    for column, of in TOTALS.items():
        values = np.stack([totals_of(study, run, setting.ids, column) for run in setting.runs])
        if every_label_real:
            for definition, group in setting.groups.items():
                text = f"influence on {of}, {REAL_DIFFICULT} minus {REAL_EASY}"
                about = ("tell_more", setting.scenario, setting.placement, definition, text, "nats")
                yield compare_groups(about, values, group == REAL_DIFFICULT, group == REAL_EASY)
        if random.any() and column == "total":
            # Harm is influence below 0, so the claim is about its negative.
            text = f"harm (negative influence) to {of} by one randomly labelled example"
            about = ("random_harm", setting.scenario, setting.placement, "", text, "nats")
            yield compare_groups(about, -values, random)


def placebo_influence(study: Study, confidence: float) -> dict[str, dict[str, Any]]:
    """Mean total influence of the placebos, by scenario and placement: what comes out where there is nothing."""
    found: dict[str, dict[str, Any]] = {}
    for scenario, placement in study.settings:
        tables = [study.placebo[run] for run in study.runs(scenario, placement)]
        if all(len(table) for table in tables) and _targets(study, scenario, placement) >= ENOUGH_TARGETS:
            means = [float(table["total"].mean()) for table in tables]
            found.setdefault(scenario, {})[placement] = entry(means, confidence)
    return found


def _targets(study: Study, scenario: str, placement: str) -> int:
    return min(len(study.targets[run]) for run in study.runs(scenario, placement))
