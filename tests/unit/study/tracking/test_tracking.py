"""Tracking, as far as it goes without MLflow; tests/pipeline/test_tracking.py uses a real store."""

import subprocess
import sys

import pytest

from study.context.runs import Run
from study.context.stage import Stage
from study.tracking import Tracker, live, track
from study.tracking.content import numbers, run_tags, texts, training_params
from study.tracking.store import TrackingError, flat, reason
from tests.support import ROOT as REPOSITORY


@pytest.fixture
def stage() -> Stage:
    params = Stage(REPOSITORY, "fetch", {}).raw_params
    item = {"scenario": params["scenarios"][0], "seed": str(params["seeds"][0])}
    return Stage(REPOSITORY, "control", item)


def _process(code: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)


def test_flat_joins_keys() -> None:
    assert flat({"a": {"b": 1, "c": {"d": 2}}, "e": 3}) == {"a.b": 1, "a.c.d": 2, "e": 3}


def test_params_are_texts() -> None:
    assert texts({"a": "x", "b": None, "c": [1, 2], "d": {"e": 0.5}}) == {
        "a": "x",
        "b": "null",
        "c": "[1, 2]",
        "d.e": "0.5",
    }


def test_numbers_leave_out_what_is_no_metric() -> None:
    found = numbers({"a": 1, "b": "text", "c": True, "d": float("nan"), "e": {"f@g": 0.5}}, "final_")
    assert {value.name: value.value for value in found} == {"final_a": 1.0, "final_e/f_g": 0.5}


def test_params_hold_only_the_noise_of_the_own_scenario(stage: Stage) -> None:
    run = Run(stage.item["scenario"], "dropout", int(stage.item["seed"]))
    params = training_params(stage, run)
    assert params["labels.noise"] == str(stage.raw_params["labels"]["noise"][run.scenario])
    assert params["model.name"] == stage.raw_params["model"]["name"]
    assert params["placement"] == "dropout"


def test_tags_do_without_git(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    tags = run_tags(stage, "key", "live")
    assert tags["turnover.key"] == "key"
    assert tags["turnover.stage"] == stage.name
    assert "turnover.dirty" not in tags


def test_a_reason_is_one_line_and_hides_the_address() -> None:
    assert reason(ValueError("first\nsecond")) == "first"
    assert reason(ValueError()) == "ValueError"
    assert "secret" not in reason(OSError("API request to http://me:secret@host failed: Max retries exceeded with url"))
    assert reason(TrackingError("x" * 300)) == "x" * 300


def test_a_recorder_that_hangs_does_not_block(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "PATIENCE", 0.2)
    tracker = Tracker(_process("import time; time.sleep(600)"))
    for number in range(3000):  # far more than the pipe holds
        tracker.epoch(number, {"loss": 0.5})
    tracker.results()
    tracker.close("FINISHED")
    error = capsys.readouterr().err
    assert error.count("warning:") == 1
    assert "make repro" in error


def test_a_recorder_that_died_is_ignored() -> None:
    recorder = _process("")
    recorder.wait()
    tracker = Tracker(recorder)
    tracker.resolved(device="cpu")
    tracker.epoch(1, {"loss": 0.5})
    tracker.close("FINISHED")


def test_a_recorder_that_cannot_start_gives_one_warning(
    stage: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TURNOVER_TRACKING", raising=False)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with track(stage, Run("real", "dropout", 0)) as tracker:
        tracker.epoch(1, {"loss": 0.5})
        tracker.results()
    assert capsys.readouterr().err.count("warning:") == 1


def test_switched_off(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNOVER_TRACKING", "off")
    monkeypatch.setattr(subprocess, "Popen", None)
    with track(stage, Run("real", "dropout", 0)) as tracker:
        tracker.epoch(1, {"loss": 0.5})


def test_the_body_s_error_comes_through(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNOVER_TRACKING", "off")
    with pytest.raises(ZeroDivisionError), track(stage, Run("real", "dropout", 0)):
        _ = 1 / 0
