"""Finding (ii) by the estimates: does a correct difficult example do more for held-out examples than an easy one?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from study.analysis.groups import REAL_DIFFICULT, REAL_EASY
from study.analysis.inputs import Study
from study.analysis.intervals import entry
from study.findings.effects import Effect, Where, compare_groups
from study.findings.learning import Setting, totals_of

ENOUGH_TARGETS = 30  # below, nothing can be said about other held-out examples
TOTALS = {"total": "all held-out examples", "total_same_class": "the held-out examples of its own label"}


def influence_effects(study: Study, setting: Setting) -> Iterator[Effect]:
    """Difficult against easy real examples, and wrongly labelled ones against none."""
    if _targets(study, setting.scenario, setting.placement) < ENOUGH_TARGETS:
        return
    at = (setting.scenario, setting.placement)
    for column, of in TOTALS.items():
        values = np.stack([totals_of(study, run, setting.ids, column) for run in setting.runs])
        for definition, group in setting.groups.items():
            if (group == REAL_EASY).any():
                text = f"influence on {of}, {REAL_DIFFICULT} minus {REAL_EASY} examples"
                where = Where(*at, definition, text, "nats")
                yield compare_groups(where, values, group == REAL_DIFFICULT, group == REAL_EASY)
        if setting.wrong.any():
            where = Where(*at, "", f"influence on {of} of one wrongly labelled example", "nats")
            yield compare_groups(where, values, setting.members(setting.wrong))


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
