"""Where runs are kept, and whether all are there: without MLflow."""

from __future__ import annotations

import importlib.util
import sqlite3
from contextlib import closing
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from study.tracking.place import TrackingError, note_complete, place_of, runs_if_complete
from study.tracking.store import local_path


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)


NAMES = ["plain", "with space", "Jörg", "50%done", "50%41done", "a#b", "what?now", 'it\'s "so"']


@pytest.mark.parametrize("name", NAMES)
def test_artifact_uris_lead_back_to_their_paths(name: str) -> None:
    path = Path("/somewhere") / name / "mlruns"
    assert local_path(path.as_uri()) == local_path(str(path)) == path
    assert local_path("mlflow-artifacts:/0/1") is None
    assert local_path("s3://bucket/mlruns") is None


@pytest.mark.parametrize("name", NAMES)
def test_the_database_lies_where_it_is_said_to_lie(name: str, tmp_path: Path) -> None:
    from sqlalchemy.engine import make_url

    place = place_of(tmp_path / name)
    assert place.default
    assert place.database == tmp_path / name / "mlflow.db"
    assert make_url(place.uri).database == str(place.database)


def test_an_mlflow_that_cannot_make_a_database_names_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = ModuleSpec("mlflow", None, origin="/somewhere/50%done/.venv/mlflow/__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: installed)
    with pytest.raises(
        TrackingError, match=r"below a folder whose name holds a %, /somewhere/50%done/.*: rename the fold"
    ):
        place_of(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host")
    assert place_of(tmp_path).database is None


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("uri", "meant"),
    [
        ("sqlite:///other.db", "sqlite:///{sql}/other.db"),
        ("sqlite:///sub/other.db?timeout=9", "sqlite:///{sql}/sub/other.db?timeout=9"),
        ("file:./mlruns", "{uri}/./mlruns"),
        ("./mlruns", "{path}/mlruns"),
        ("mlruns", "{path}/mlruns"),
        *(
            (uri, uri)
            for uri in ("sqlite:////there/other.db", "sqlite://", "sqlite:///:memory:", "file:///there/mlruns")
        ),
        *((uri, uri) for uri in ("/there/mlruns", "https://host", "postgresql://me@host/runs", "databricks://me")),
        ("databricks", "databricks"),
    ],
)
def test_relative_addresses_begin_at_the_user_s_repository(
    uri: str, meant: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / name
    monkeypatch.setenv("DVC_ROOT", str(home))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    place = place_of(tmp_path / "temporary")
    sql = str(home).replace("%", "%25").replace("?", "%3F")
    assert place.uri == meant.format(sql=sql, uri=home.as_uri(), path=home)
    if "other.db" in uri and "there" not in uri:
        assert place.database is not None and place.database.is_relative_to(home)


def test_an_experiment_of_dvc_in_a_temporary_folder_uses_the_user_s_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "mine"))
    place = place_of(tmp_path / "mine" / ".dvc" / "tmp" / "exps" / "temporary")
    assert place.database == tmp_path / "mine/mlflow.db"
    assert place.artifacts == (tmp_path / "mine/mlruns").as_uri()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with a lock, a database, and the files of a run."""
    root = tmp_path / "Jörg's repository"
    (root / "mlruns/one").mkdir(parents=True)
    (root / "dvc.lock").write_text("lock")
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        database.execute("CREATE TABLE runs (lifecycle_stage)")
        database.execute("INSERT INTO runs VALUES ('active')")
        database.commit()
    return root


def test_a_complete_store_is_known_without_mlflow(root: Path) -> None:
    place = place_of(root)
    assert runs_if_complete(place, root) is None
    note_complete(place, root, 12)
    assert runs_if_complete(place, root) == 12
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        assert database.execute("SELECT * FROM runs").fetchall() == [("active",)]
    assert runs_if_complete(place, root) == 12, "looking at the runs changes none"


@pytest.mark.parametrize("change", ["lock", "no database", "files", "run deleted", "experiment", "note"])
def test_what_is_gone_is_noticed(root: Path, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place = place_of(root)
    note_complete(place, root, 12)
    match change:
        case "lock":
            (root / "dvc.lock").write_text("another")
        case "no database":
            (root / "mlflow.db").unlink()
        case "files":
            (root / "mlruns/one").rmdir()
        case "run deleted":
            with closing(sqlite3.connect(root / "mlflow.db")) as database:
                database.execute("UPDATE runs SET lifecycle_stage = 'deleted'")
                database.commit()
        case "experiment":
            monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "another")
            place = place_of(root)
        case "note":
            (root / "mlflow.db.complete").write_text('{"experiment": "turnover"}')
    assert runs_if_complete(place, root) is None


def test_of_a_server_nothing_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host")
    place = place_of(tmp_path)
    (tmp_path / "dvc.lock").write_text("lock")
    note_complete(place, tmp_path, 1)
    assert runs_if_complete(place, tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == ["dvc.lock"]
