"""Test the claims: compare groups, orders of removal and gradients, and say what the data support."""

from __future__ import annotations

from typing import Any

from study.analysis.intervals import rounded
from study.artefacts.files import write_csv, write_json, writing
from study.context.params import FiguresParams
from study.context.stage import Stage, main
from study.findings.alignment import alignment_table, compare_alignment
from study.findings.groups import DEFINITIONS
from study.findings.influence import ENOUGH_TARGETS, compare_influence, placebo_influence
from study.findings.inputs import Study, read_study
from study.findings.learning import (
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


def make_findings(stage: Stage) -> None:
    """The body of stage `findings`: `reports/metrics/findings.json` and the tables of `reports/metrics/findings`."""
    settings: FiguresParams = stage.param("figures")
    found, tables = find(read_study(stage), settings)
    with writing(stage.out("reports/metrics/findings")) as folder:
        folder.mkdir(parents=True)
        for name, table in tables.items():
            write_csv(folder / f"{name}.csv", table)
    write_json(stage.out("reports/metrics/findings.json"), found)


def find(study: Study, settings: FiguresParams) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `findings.json` holds (six significant digits), and the tables by name."""
    confidence = settings.confidence
    cells = [read_setting(study, *of, settings.difficulty_quantile) for of in study.settings()]
    comparisons = [
        part
        for cell in cells
        for part in (*compare_learning(cell), *compare_alignment(study, cell), *compare_influence(study, cell))
    ]
    tables = {
        "groups": group_table(study, cells, confidence),
        "speed": speed_table(study, cells, confidence),
        "learning-time": learning_time_table(study, cells, confidence),
        "gradients": alignment_table(study, cells, confidence),
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
        "seeds": study.seeds,
        "confidence": confidence,
        "difficulty_quantile": settings.difficulty_quantile,
        "definitions": list(DEFINITIONS),
        "difficulty_from": "the other seeds" if len(study.seeds) > 1 else "the only seed itself",
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
    main(make_findings, "findings", doc=__doc__)
