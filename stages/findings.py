"""Test the claims: compare groups, orders of removal and gradients, and say what the data support."""

from __future__ import annotations

from typing import Any

import pandas as pd

from study.analysis.inputs import Study, read_study
from study.analysis.intervals import difficulty_from, rounded
from study.artefacts.files import write_csv, write_json, writing
from study.context.stage import Stage, main
from study.findings.alignment import alignment_table, compare_alignment
from study.findings.influence import ENOUGH_TARGETS, compare_influence, placebo_influence
from study.findings.learning import (
    DEFINITIONS,
    EARLY,
    compare_learning,
    group_table,
    learning_time_table,
    read_setting,
    speed_table,
)
from study.findings.removal import cleansing_table, compare_removal, difference_table, removal_table, turning_point
from study.findings.testing import DRAWS
from study.findings.verdicts import judge, overall


def run(stage: Stage) -> None:
    settings = {key: stage.param(f"figures.{key}") for key in ("confidence", "difficulty_quantile")}
    found, tables = find(read_study(stage), **settings)
    with writing(stage.out("reports/metrics/findings")) as folder:
        folder.mkdir(parents=True)
        for name, table in tables.items():
            write_csv(folder / f"{name}.csv", table)
    write_json(stage.out("reports/metrics/findings.json"), found)


def find(
    study: Study, *, confidence: float, difficulty_quantile: float
) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """What `findings.json` holds (six significant digits), and the tables by name."""
    settings = [read_setting(study, *of, difficulty_quantile) for of in study.settings]
    comparisons = [
        part
        for setting in settings
        for part in (
            *compare_learning(setting),
            *compare_alignment(study, setting),
            *compare_influence(study, setting),
        )
    ]
    tables = {
        "groups": group_table(study, settings, confidence),
        "speed": speed_table(settings, confidence),
        "learning-time": learning_time_table(settings, confidence),
        "gradients": alignment_table(study, settings, confidence),
    }
    turning: dict[str, float | None] = {}
    if study.removal is not None:
        retrained = [name for name in study.scenarios if (study.removal["scenario"] == name).any()]
        for name in retrained:
            is_random = study.scenarios[name].of("train")["is_random"]
            if not is_random.all():
                comparisons += compare_removal(study.removal, name, noisy=bool(is_random.any()))
        tables["removal"] = removal_table(study.removal, confidence)
        tables["cleansing"] = cleansing_table(study.removal)
        tables["removal-differences"] = difference_table(study.removal, confidence)
        turning = {name: turning_point(tables["removal-differences"], name) for name in retrained}
    claims = judge(comparisons, confidence)
    found = {
        "seeds": study.masked_seeds,
        "confidence": confidence,
        "difficulty_quantile": difficulty_quantile,
        "definitions": list(DEFINITIONS),
        "difficulty_from": difficulty_from(study.masked_seeds),
        "early_epochs": EARLY,
        "draws": DRAWS,
        "enough_targets": ENOUGH_TARGETS,
        "removal": study.removal is not None,
        "turning_point": turning,
        "placebo_influence": placebo_influence(study, confidence),
        "overall": overall(claims),
        "claims": claims,
    }
    return rounded(found), tables


if __name__ == "__main__":
    main(run, "findings", doc=__doc__)
