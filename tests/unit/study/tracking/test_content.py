"""What runs hold, as far as it goes without MLflow."""

from __future__ import annotations

import pytest

from study.context.runs import Run
from study.context.stage import Stage
from study.tracking.content import item_name, run_tags, texts, training_params
from tests.support import ROOT


@pytest.fixture
def stage() -> Stage:
    return Stage(ROOT, "train", {"scenario": "real", "placement": "dropout"})


def test_params_are_texts() -> None:
    found = texts({"a": "x", "b": None, "c": [1, 2], "d": {"e": 0.5}})
    assert found == {"a": "x", "b": "null", "c": "[1, 2]", "d.e": "0.5"}


def test_params_hold_only_the_noise_of_the_own_scenario(stage: Stage) -> None:
    params = training_params(stage, Run("real", "dropout", 2))
    assert params["labels.noise"] == str(stage.raw_params["labels"]["noise"]["real"])
    assert params["model.name"] == stage.raw_params["model"]["name"]
    assert (params["placement"], params["seed"]) == ("dropout", "2")
    assert "seed" not in training_params(stage)


def test_tags_do_without_git(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    tags = run_tags(stage, "live")
    assert tags["turnover.stage"] == stage.name
    assert "turnover.dirty" not in tags
    assert item_name(stage) == "real-dropout"


def test_a_run_of_an_experiment_of_dvc_says_so(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    assert "turnover.experiment" not in run_tags(stage, "live")
    monkeypatch.setenv("DVC_EXP_NAME", "puggy-mule")
    assert run_tags(stage, "live")["turnover.experiment"] == "puggy-mule"


def test_importing_tracking_loads_neither_mlflow_nor_torch() -> None:
    import subprocess
    import sys

    code = "import sys, study.tracking; print(sys.modules.keys() & {'mlflow', 'torch', 'pandas', 'numpy'})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "src", capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
