"""MLflow's real server, which keeps the files as well: tracked live, dead in the middle, and back for the backfill."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from study.commands.backfill import backfill
from study.commands.ui import HOST, free_port, start, wait_for
from study.tracking import live, track
from study.tracking.place import Place
from study.tracking.store import Store
from tests.pipeline.postgres import postgres
from tests.pipeline.tracked_project import (
    CONTROL,
    CURVE,
    SEEDS,
    make_project,
    member_key,
    stage_of,
    write_results,
    write_training,
)

pytestmark = pytest.mark.pipeline

FIRST, SECOND = SEEDS


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'server.db'}"
        return
    with postgres() as address:
        yield address


@contextmanager
def _served(folder: Path, database: str, server: str) -> Iterator[subprocess.Popen[bytes]]:
    with start(Place(folder, database, "turnover"), server) as process:
        try:
            wait_for(process, server)
            yield process
        finally:
            process.terminate()


def test_a_server_that_dies_and_comes_back_gets_every_run(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("MLFLOW_EXPERIMENT_NAME", "TURNOVER_TRACKING", "MLFLOW_RUN_ID", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    server, kept = f"http://{HOST}:{free_port(None)}", tmp_path / "server"
    kept.mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")  # of a machine with other work to do
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setattr(live, "PATIENCE", 120.0)
    root = make_project(tmp_path / "project")

    with _served(kept, database, server) as process, track(stage_of(root, FIRST)) as tracker:
        for epoch in CURVE[:2]:
            tracker.epoch(FIRST, int(epoch["epoch"]), {"train_loss": epoch["train_loss"]})
        deadline = time.monotonic() + 120
        store = Store(root)
        while not store.client.search_runs([store.experiment_id], "metrics.train_loss > 0"):
            assert time.monotonic() < deadline, "no epoch ever reached the server"
            time.sleep(0.5)
        for worker in psutil.Process(process.pid).children(recursive=True):  # MLflow's own process only starts them
            worker.kill()
        process.kill()
        process.wait()
        capfd.readouterr()
        for run in SEEDS:
            tracker.finished(run, member_key(root, run), write_training(root, run))
    said = [line for line in capfd.readouterr().err.splitlines() if "warning: " in line]
    assert len(said) == 1 and "the server that MLFLOW_TRACKING_URI names does not answer" in said[0]

    write_training(root, CONTROL)
    write_results(root)
    with _served(kept, database, server):
        assert backfill(root) == "MLflow: 8 runs present, 8 added"
        assert backfill(root) == "MLflow: 8 runs present, 0 added"
        import mlflow.pyfunc

        store = Store(root)
        runs = {run.info.run_name: run for run in store.client.search_runs([store.experiment_id])}
        assert {"mixed-head", FIRST.name, SECOND.name, "findings", "report"} <= runs.keys()
        assert all(run.info.artifact_uri.startswith("mlflow-artifacts:") for run in runs.values())
        mlflow.set_tracking_uri(server)
        try:
            model = mlflow.pyfunc.load_model("models:/turnover-mixed-head@seed-1")
        finally:
            mlflow.set_tracking_uri(None)
        assert model.predict(np.zeros((3, 1, 8, 8), np.uint8)).shape == (3, 10)
    assert not (root / "mlruns").exists() and not (root / "mlflow.db").exists()
