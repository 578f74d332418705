"""What a stage may expect of tracking, whatever becomes of MLflow."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from study.artefacts.files import write_json
from study.context.runs import Run
from study.context.stage import Stage
from study.tracking import live, track
from study.tracking.place import TrackingError
from study.tracking.store import reason
from tests.support import ROOT

RUN = Run("real", "dropout", 0)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """A stage whose dependencies are empty."""
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    made = Stage(tmp_path, "train", {"scenario": "real", "placement": "dropout"})
    for dep in made.declared.deps:
        (tmp_path / dep).mkdir(parents=True)
    return made


@pytest.fixture(autouse=True)
def tracking_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TURNOVER_TRACKING", "MLFLOW_TRACKING_URI", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)


def _store_that(monkeypatch: pytest.MonkeyPatch, error: Exception | None, wait: threading.Event | None = None) -> None:
    def store(root: Path) -> None:
        if wait is not None:
            wait.wait(60)
        if error is not None:
            raise error

    monkeypatch.setattr(live, "Store", store)


def _results(folder: Path) -> Path:
    write_json(folder / "metrics.json", {"accuracy": 0.5})
    (folder / "curve.csv").write_text("epoch,train_loss\n1,0.5\n")
    return folder


def test_a_reason_is_one_line_and_hides_the_address() -> None:
    assert reason(ValueError("first\nsecond")) == "first"
    assert reason(ValueError()) == "ValueError"
    assert "secret" not in reason(OSError("API request to http://me:secret@host failed: Max retries exceeded with url"))
    assert reason(TrackingError("x" * 300)) == "x" * 300


def test_an_mlflow_that_hangs_holds_nobody_up(
    stage: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    release = threading.Event()
    _store_that(monkeypatch, TrackingError("late"), release)
    monkeypatch.setattr(live, "PATIENCE", 0.2)
    monkeypatch.setattr(live, "LEAVING", 0.2)
    with track(stage) as tracker:
        for number in range(3000):
            tracker.epoch(RUN, number, {"loss": 0.5})
        tracker.finished(RUN, "key", _results(tmp_path))
    error = capsys.readouterr().err
    assert error.count("warning:") == 1
    assert "make repro" in error
    with pytest.raises(KeyboardInterrupt), track(stage) as tracker:
        tracker.epoch(RUN, 1, {"loss": 0.5})
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "", "who is asked to leave has other things to say"
    release.set()


def test_an_mlflow_that_fails_gives_one_warning(
    stage: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _store_that(monkeypatch, TrackingError("no room"))
    with track(stage) as tracker:
        tracker.resolved(device="cpu")
        tracker.epoch(RUN, 1, {"loss": 0.5})
        tracker.finished(RUN, "key", _results(tmp_path))
    error = capsys.readouterr().err
    assert error.startswith("warning: this training is not tracked in MLflow (no room); the results are not affected")
    assert error.count("\n") == 1


def test_results_that_are_not_there_give_one_warning(
    stage: Stage, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with track(stage) as tracker:
        tracker.finished(RUN, "key", tmp_path / "nowhere")
        tracker.finished(RUN, "key", tmp_path / "nowhere")
    assert capsys.readouterr().err.count("warning:") == 1


def test_nothing_starts_before_the_first_report(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr(live, "_Recorder", lambda stage, key: started.append("now"))
    with pytest.raises(ZeroDivisionError), track(stage) as tracker:
        tracker.resolved(device="cpu")
        _ = 1 / 0
    assert started == [], "workers that are forked meanwhile would inherit the locks of an import"


def test_switched_off(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNOVER_TRACKING", "off")
    monkeypatch.setattr(live, "_Recorder", None)
    with track(stage) as tracker:
        tracker.epoch(RUN, 1, {"loss": 0.5})
        tracker.finished(RUN, "key", Path("nowhere"))
