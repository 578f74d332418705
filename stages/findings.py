"""Test the four claims of docs/protocol.md, and measure everything else that bears on them."""

from __future__ import annotations

from typing import Any

import pandas as pd

from study.analysis.inputs import Study, read_study
from study.analysis.intervals import difficulty_from, rounded
from study.artefacts.files import write_csv, write_json, writing
from study.context.stage import Stage, main
from study.findings.alignment import alignment_effects, alignment_table
from study.findings.effects import POWER
from study.findings.influence import ENOUGH_TARGETS, influence_effects, placebo_influence
from study.findings.learning import (
    DEFINITIONS,
    EARLY,
    Setting,
    easy_faster,
    easy_faster_real,
    group_table,
    learning_effects,
    learning_time_table,
    read_setting,
    speed_table,
    together,
)
from study.findings.protocol import Evidence, described, judge, overall
from study.findings.removal import cleansing_table, removal_effects, removal_table, tell_more
from study.findings.variants import FOLDER, variants_table


def run(stage: Stage) -> None:
    settings = {key: stage.param(f"figures.{key}") for key in ("confidence", "difficulty_quantile")}
    fraction = stage.param("removal.fractions")[0]  # the first one is the claim's
    found, tables = find(read_study(stage), fraction=fraction, **settings)
    tables["variants"] = variants_table(stage.root / FOLDER, found, tables["effects"])
    with writing(stage.out("reports/metrics/findings")) as folder:
        folder.mkdir(parents=True)
        for name, table in tables.items():
            write_csv(folder / f"{name}.csv", table)
    write_json(stage.out("reports/metrics/findings.json"), found)


def find(
    study: Study, *, confidence: float, difficulty_quantile: float, fraction: float
) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """What `findings.json` holds (six significant digits), and the tables by name.

    Args:
        study: all runs.
        confidence: of the intervals; 1 minus the level of the claims.
        difficulty_quantile: the share of the real examples that is easy, and the share that is difficult.
        fraction: of the training examples that networks are retrained without, in the claim about them.
    """
    settings = [read_setting(study, *of, difficulty_quantile) for of in study.settings]
    claims = judge(evidence_of(study, settings, fraction, confidence), confidence)
    tables = {
        "effects": effects_table(study, settings, confidence),
        "groups": group_table(study, settings, confidence),
        "speed": speed_table(settings, confidence),
        "learning-time": learning_time_table(settings, confidence),
        "gradients": alignment_table(study, settings, confidence),
    }
    if study.removal is not None:
        tables["removal"] = removal_table(study.removal, confidence)
        tables["cleansing"] = cleansing_table(study.removal)
    found = {
        "seeds": study.masked_seeds,
        "confidence": confidence,
        "difficulty_quantile": difficulty_quantile,
        "definitions": list(DEFINITIONS),
        "difficulty_from": difficulty_from(study.masked_seeds),
        "early_epochs": EARLY,
        "enough_targets": ENOUGH_TARGETS,
        "power": POWER,
        "removal": study.removal is not None,
        "placebo_influence": placebo_influence(study, confidence),
        "findings": overall(claims),
        "claims": claims,
    }
    return rounded(found), tables


def evidence_of(study: Study, settings: list[Setting], fraction: float, confidence: float) -> dict[str, Evidence]:
    """What there is for each of the four claims: the first placement (head, where it is asked for), scenarios with some
    and with no random labels; of several of a kind, the first."""
    first = [setting for setting in settings if setting.placement == study.placements[0]]
    mixed = next((of for of in first if of.wrong.any() and of.real.any()), None)
    real = next((of for of in first if of.real.all()), None)
    found: dict[str, Evidence | None] = {}
    if mixed is not None:
        found |= {"P1": easy_faster(mixed, confidence), "P2": together(mixed, confidence)}
    if real is not None:
        found["P3"] = easy_faster_real(real, confidence)
        if study.removal is not None:
            found["P4"] = tell_more(study.removal, real.scenario, fraction, confidence)
    return {key: of for key, of in found.items() if of is not None}


def effects_table(study: Study, settings: list[Setting], confidence: float) -> pd.DataFrame:
    """Every effect that is no claim's, with its interval: column ``finding``, then those of `described`."""
    rows: list[dict[str, Any]] = []
    for setting in settings:
        for finding, effects in (
            (1, learning_effects(setting)),
            (1, alignment_effects(study, setting)),
            (2, influence_effects(study, setting)),
        ):
            rows += [{"finding": finding, **described(effect, confidence)} for effect in effects]
    if study.removal is not None:
        for name, scenario in study.scenarios.items():
            if not scenario.of("train")["is_random"].all():
                rows += [{"finding": 2, **described(of, confidence)} for of in removal_effects(study.removal, name)]
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main(run, "findings", doc=__doc__)
