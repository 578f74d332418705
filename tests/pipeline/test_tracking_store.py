"""The MLflow store itself: made, shared, deleted, out of reach."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from study.commands import backfill as backfill_module
from study.tracking import live, track, waiting
from study.tracking.place import TrackingError
from study.tracking.store import OWNER, Store
from tests.pipeline.tracked_project import CURVE, SEEDS, give_store, make_project, stage_of
from tests.support import ROOT

pytestmark = pytest.mark.pipeline

# Makes the store, starts a run, and is killed.
_KILLED = """
import os, sys
from pathlib import Path
from study.tracking.store import Store, silence
silence()
Store(Path(sys.argv[1])).start("killed", {}, {})
os.kill(os.getpid(), 9)
"""


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    """The default store, whatever the caller's."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "TURNOVER_TRACKING", "DVC_ROOT"):
            patch.delenv(name, raising=False)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose store two processes made at the same time; both were killed while a run of theirs was going on."""
    root = tmp_path_factory.mktemp("made")
    both = [subprocess.Popen([sys.executable, "-c", _KILLED, str(root)], cwd=ROOT / "src") for _ in range(2)]
    assert [process.wait(180) for process in both] == [-9, -9]
    return root


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Store:
    """A store of its own for a test, which holds the two runs of the killed processes."""
    give_store(tmp_path, made)
    return Store(tmp_path)


def _statuses(store: Store, name: str) -> list[str]:
    found = store.client.search_runs([store.experiment_id], f"attributes.run_name = '{name}'")
    return [run.info.status for run in found]


def test_runs_of_killed_processes_are_ended(store: Store, made: Path) -> None:
    elsewhere = store.start("elsewhere", {}, {})
    store.tag(elsewhere, {OWNER: "another:/repository"})
    assert _statuses(store, "killed") == ["RUNNING", "RUNNING"]
    store.end_orphans()
    assert _statuses(store, "killed") == ["RUNNING", "RUNNING"], "another folder's"
    for run in store.client.search_runs([store.experiment_id], "attributes.run_name = 'killed'"):
        store.tag(run.info.run_id, {OWNER: run.data.tags[OWNER].replace(str(made), str(store.place.home))})
    store.end_orphans()
    assert _statuses(store, "killed") == ["KILLED", "KILLED"]
    assert _statuses(store, "elsewhere") == ["RUNNING"]


def test_runs_of_experiments_whose_folder_is_gone_are_ended(store: Store) -> None:
    going = store.place.home / ".dvc" / "tmp" / "exps" / "going"
    going.mkdir(parents=True)
    for name, folder in (("going", going), ("gone", going.with_name("gone")), ("stranger", Path("/gone"))):
        store.tag(store.start(name, {}, {}), {OWNER: f"{socket.gethostname()}:{folder}"})
    store.tag(store.start("elsewhere", {}, {}), {OWNER: f"another:{going.with_name('gone')}"})
    store.end_orphans()
    statuses = {name: _statuses(store, name) for name in ("going", "gone", "stranger", "elsewhere")}
    assert statuses == {"going": ["RUNNING"], "gone": ["KILLED"], "stranger": ["RUNNING"], "elsewhere": ["RUNNING"]}


def test_a_database_of_another_folder_is_refused(made: Path, tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes((made / "mlflow.db").read_bytes())
    with pytest.raises(TrackingError, match="made elsewhere"):
        Store(tmp_path)


def test_an_unwritable_database_gives_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").mkdir()
    with pytest.raises(TrackingError, match=r"mlflow\.db cannot be written"):
        Store(tmp_path)


@pytest.mark.parametrize("damage", ["no database", "a page", "the end"])
def test_a_damaged_database_names_the_cure(made: Path, tmp_path: Path, damage: str) -> None:
    content = bytearray((made / "mlflow.db").read_bytes())
    half = len(content) // 2
    if damage == "a page":
        content[4096:half] = bytes(half - 4096)
    database = tmp_path / "mlflow.db"
    database.write_bytes({"no database": b"nothing" * 1000, "the end": content[:half]}.get(damage, content))
    with pytest.raises(TrackingError, match=r"mlflow\.db is damaged, .*: remove it, and mlruns beside it"):
        Store(tmp_path)
    database.unlink()
    assert Store(tmp_path).finished() == {}


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What we say, not MLflow."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("study.")]


def test_an_emptied_database_is_said_to_have_lost_its_runs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = tmp_path / 'it\'s "so"'
    place.mkdir()
    assert Store(place).finished() == Store(place).finished() == {}
    assert said(caplog) == []
    (place / "mlflow.db").write_bytes(b"")
    assert Store(place).finished() == {}
    assert said(caplog) == [
        "mlflow.db was empty: the runs of what is finished are added again, any others in it are lost"
    ]


def test_a_deleted_experiment_names_the_cure(store: Store) -> None:
    store.client.delete_experiment(store.experiment_id)
    with pytest.raises(TrackingError, match=f"mlflow experiments restore --experiment-id {store.experiment_id}"):
        Store(store.place.home)


def test_of_two_that_finish_the_same_one_stays(store: Store) -> None:
    first, second = (store.start(name, {}, {}) for name in ("first", "second"))
    for run in (first, second):
        store.client.log_text(run, "text", "file.txt")
    # Both clones look before either has finished, and then clean up: each must keep the same one.
    store.finish(second, "key")
    store.finish(first, "key")
    assert [run_id for run_id, _ in store.finished().values()] == [second]
    assert store.client.get_run(first).info.lifecycle_stage == "deleted"


def test_only_local_stores_keep_their_files_in_the_repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import mlflow

    asked: list[str | None] = []

    class Client:
        def __init__(self, uri: str) -> None:
            pass

        def get_experiment_by_name(self, name: str) -> Any:
            return None

        def create_experiment(self, name: str, artifact_location: str | None, tags: dict[str, str]) -> None:
            asked.append(artifact_location)

    monkeypatch.setattr(mlflow, "MlflowClient", Client)
    uris = (
        "postgresql://me:secret@host/runs",
        "mysql+pymysql://host/runs",
        "https://host",
        f"sqlite:///{tmp_path}/other.db",
    )
    for uri in uris:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(TrackingError, match="could not be created"):
            Store(tmp_path)
    assert asked == [None, None, None, (tmp_path / "mlruns").as_uri()]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("project") / "project")


def _train(root: Path) -> None:
    """What a training does that knows nothing of the server's state."""
    with track(stage_of(root, SEEDS[0])) as tracker:
        tracker.resolved(device="cpu")
        for epoch in CURVE:
            tracker.epoch(SEEDS[0], int(epoch["epoch"]), {"train_loss": epoch["train_loss"]})


def test_a_dead_server_gives_one_warning(
    project: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    _train(project)
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith(
        "warning: this training is not tracked in MLflow (the server that MLFLOW_TRACKING_URI names does not answer)"
    )
    monkeypatch.chdir(project)
    monkeypatch.setattr(backfill_module, "changed_stages", lambda root: {})
    monkeypatch.setattr(sys, "argv", ["backfill"])
    assert backfill_module.main() == 0
    assert capfd.readouterr().err.startswith("warning: MLflow was not brought up to date (the server")


@pytest.mark.parametrize("answer", ["a byte a second", "refusal"])
def test_a_server_that_is_slow_or_refuses_gives_one_warning(
    project: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    for module in (live, waiting):
        monkeypatch.setattr(module, "PATIENCE", 3.0 if answer == "a byte a second" else 60.0)
    monkeypatch.setattr(backfill_module, "changed_stages", lambda root: {})
    ended = threading.Event()

    def serve(listening: socket.socket) -> None:
        while not ended.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with closing(connection):
                connection.recv(65536)
                if answer == "refusal":
                    connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    continue
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                while not ended.wait(1.0):
                    connection.sendall(b"{")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{listening.getsockname()[1]}")
        _train(project)
        error = capfd.readouterr().err
        assert error.count("\n") == 1
        assert error.startswith("warning: this training is not tracked in MLflow (")
        monkeypatch.chdir(project)
        assert backfill_module.main([]) == 0
        assert capfd.readouterr().err.startswith("warning: MLflow was not brought up to date (")
        ended.set()
