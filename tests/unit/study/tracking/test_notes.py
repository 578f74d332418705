"""What MLflow shows at the head of runs and models: the settings of this run, in words."""

from __future__ import annotations

from study.context.runs import Run
from study.context.stage import Stage
from study.tracking.notes import item_note, model_name, model_note, training_note, validation_note
from tests.support import ROOT


def stage_of(scenario: str, placement: str) -> Stage:
    return Stage(ROOT, "train", {"scenario": scenario, "placement": placement})


def test_a_training_says_what_it_was_trained_on_and_how() -> None:
    stage = stage_of("mixed", "head")
    settings = stage.raw_params
    note = training_note(stage, Run("mixed", "head", 12))
    for part in (
        f"{settings['data']['train']:,} images of {settings['data']['dataset']}",
        f"{settings['labels']['noise']['mixed']:.0%} of their labels drawn at random",
        f"{settings['training']['epochs']} epochs of {settings['training']['optimizer']}",
        "Seed 12",
        "estimates.csv",
    ):
        assert part in note
    assert "seeds 10, 12," in item_note(stage, [10, 12])


def test_a_control_promises_no_estimates() -> None:
    note = training_note(stage_of("real", "dropout"), Run("real", "dropout", 10))
    assert "the control" in note
    assert "labels as they are" in note
    assert "estimates" not in note


def test_a_placement_by_names_of_modules_is_named() -> None:
    stage = stage_of("mixed", "head")
    stage.item["placement"] = "hidden+features.2"
    assert "turn-over dropout after hidden, features.2" in item_note(stage, [0])


def test_a_model_says_how_it_is_loaded() -> None:
    stage = stage_of("mixed", "head")
    assert model_name(stage) == "turnover-mixed-head"
    assert f"models:/turnover-mixed-head@seed-{stage.runs()[0].seed}" in model_note(stage)


def test_a_validation_set_says_what_judges() -> None:
    raw = stage_of("mixed", "head").raw_params
    note = validation_note({"validation": raw["validation"]["validation"], "retrain": raw["retrain"]})
    assert f"judged by {raw['retrain']['networks']} networks" in note
