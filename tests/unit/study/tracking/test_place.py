"""Where runs are kept, whose they are, and whether all are there: without MLflow."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from study.tracking.complete import forget_complete, note_complete, runs_if_complete
from study.tracking.place import Place, TrackingError, local_path, place_of
from study.tracking.processes import HOST, PROCESS, orphaned, owner_tags


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", ["plain", "with space", "Jörg", "50%done", "a#b"])
def test_artifact_uris_lead_back_to_their_paths(name: str) -> None:
    path = Path("/somewhere") / name / "mlruns"
    assert local_path(path.as_uri()) == local_path(str(path)) == path
    assert local_path("mlflow-artifacts:/0/1") is None
    assert local_path("s3://bucket/mlruns") is None


def test_a_folder_that_mlflow_cannot_use_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=r"a folder whose name holds a %, .*50%done: rename the folder"):
        place_of(tmp_path / "50%done")


def test_an_experiment_of_dvc_in_a_temporary_folder_uses_the_user_s_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "mine"))
    place = place_of(tmp_path / "mine/.dvc/tmp/exps/temporary")
    assert place.database == tmp_path / "mine/mlflow.db"
    assert place.artifacts == (tmp_path / "mine/mlruns").as_uri()


def test_orphans_are_those_of_dead_processes_of_this_host() -> None:
    mine = owner_tags()
    assert not orphaned(mine)
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    dead = {**mine, PROCESS: f"{child.pid} 1"}
    assert orphaned(dead)
    assert orphaned({**mine, PROCESS: f"{os.getpid()} 1"}), "another process had this number"
    assert not orphaned({**dead, HOST: "another"})
    assert not orphaned({})


def _store(tmp_path: Path) -> Place:
    """A database with the tables and columns of MLflow's that are looked at, and one finished run."""
    (tmp_path / "dvc.lock").write_text("lock")
    (tmp_path / "mlruns").mkdir()
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("CREATE TABLE experiments (experiment_id, name, lifecycle_stage)")
        database.execute("CREATE TABLE runs (run_uuid, experiment_id, status, lifecycle_stage, artifact_uri)")
        database.execute("INSERT INTO experiments VALUES (1, 'turnover', 'active')")
        run = ("one", 1, "FINISHED", "active", (tmp_path / "mlruns").as_uri())
        database.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?)", run)
        database.commit()
    return place_of(tmp_path)


def _execute(place: Place, statement: str) -> None:
    assert place.database is not None
    with closing(sqlite3.connect(place.database)) as database:
        database.execute(statement)
        database.commit()


def test_a_complete_store_is_known_without_mlflow(tmp_path: Path) -> None:
    root = tmp_path / "Jörg's repository"
    root.mkdir()
    place = _store(root)
    assert runs_if_complete(place, root) is None
    note_complete(place, root, ["one"])
    assert runs_if_complete(place, root) == 1
    forget_complete(place)
    assert runs_if_complete(place, root) is None


@pytest.mark.parametrize("change", ["lock", "database", "files", "run deleted", "experiment deleted", "experiment"])
def test_what_is_gone_is_noticed(tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place = _store(tmp_path)
    note_complete(place, tmp_path, ["one"])
    match change:
        case "lock":
            (tmp_path / "dvc.lock").write_text("another")
        case "database":
            (tmp_path / "mlflow.db").unlink()
        case "files":
            (tmp_path / "mlruns").rmdir()
        case "run deleted":
            _execute(place, "UPDATE runs SET lifecycle_stage = 'deleted'")
        case "experiment deleted":
            _execute(place, "UPDATE experiments SET lifecycle_stage = 'deleted'")
        case "experiment":
            monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "another")
            place = place_of(tmp_path)
    assert runs_if_complete(place, tmp_path) is None


def test_of_a_server_nothing_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host")
    place = place_of(tmp_path)
    (tmp_path / "dvc.lock").write_text("lock")
    note_complete(place, tmp_path, ["one"])
    assert runs_if_complete(place, tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == ["dvc.lock"]
