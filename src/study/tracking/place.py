"""Where runs are kept: `mlflow.db` and `mlruns` in the repository, or what MLFLOW_TRACKING_URI names.

A complete backfill leaves a note beside the database, so that the next one need not import MLflow, which takes seconds
of every `make repro`. It holds as long as `dvc.lock`, the database and the folders of `mlruns` are what they were.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from study.context.fingerprint import hash_of

_SQLITE = "sqlite:///"


class TrackingError(Exception):
    """MLflow cannot be used, in words for the user."""


@dataclass(frozen=True)
class Place:
    """A tracking store and the experiment in it.

    Args:
        home: the folder of the store's own files.
        uri: as MLflow takes it.
        experiment: its name.
    """

    home: Path
    uri: str
    experiment: str

    @property
    def default(self) -> bool:
        """Whether it is the repository's own `mlflow.db`."""
        return self.uri == default_uri(self.home)

    @property
    def database(self) -> Path | None:
        """The file of an SQLite store; None for any other store."""
        path = unquote(self.uri.removeprefix(_SQLITE).partition("?")[0])
        return Path(path) if path and self.uri.startswith(_SQLITE) else None

    @property
    def artifacts(self) -> str | None:
        """Where a new experiment keeps its files. None: the store decides, since others reach it and not this disk."""
        local = self.uri.startswith((_SQLITE, "file:")) or "://" not in self.uri
        return (self.home / "mlruns").as_uri() if local else None


def default_uri(home: Path) -> str:
    """The address of the database that belongs to the repository at `home`."""
    return f"{_SQLITE}{_encoded(home / 'mlflow.db')}"


def place_of(root: Path) -> Place:
    """The store of the repository at `root`.

    A stage of `dvc exp run --temp` runs in a folder that DVC deletes afterwards, and finds the user's own repository
    in DVC_ROOT. For the same reason relative paths in MLFLOW_TRACKING_URI begin at the user's repository.

    Raises:
        TrackingError: MLflow cannot keep anything there.
    """
    home = Path(os.environ.get("DVC_ROOT") or root).absolute()
    uri = _anchored(os.environ.get("MLFLOW_TRACKING_URI") or default_uri(home), home)
    place = Place(home, uri, os.environ.get("MLFLOW_EXPERIMENT_NAME") or "turnover")
    installed = importlib.util.find_spec("mlflow")
    origin = str(installed and installed.origin)
    if place.database is not None and "%" in origin:
        raise TrackingError(
            f"MLflow cannot make a database where it is installed below a folder whose name holds a %, {origin}: "
            "rename the folder, or let MLFLOW_TRACKING_URI name a server"
        )
    return place


def note_complete(place: Place, root: Path, runs: int) -> None:
    """Note that the store has all `runs` that belong to the current `dvc.lock`; only of SQLite, whose file is here."""
    if place.database is not None:
        _note(place.database).write_text(f"{runs} {_state(place.database, place, root)}", encoding="utf-8")


def runs_if_complete(place: Place, root: Path) -> int | None:
    """How many runs there are if nothing is missing; None where that has to be looked up."""
    if place.database is not None:
        with suppress(OSError, ValueError):
            runs, state = _note(place.database).read_text(encoding="utf-8").split()
            if state == _state(place.database, place, root):
                return int(runs)
    return None


def _note(database: Path) -> Path:
    return database.with_name(f"{database.name}.complete")


def _state(database: Path, place: Place, root: Path) -> str:
    files = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (database, root / "dvc.lock")]
    return hash_of([place.experiment, *files, sorted(path.name for path in (place.home / "mlruns").glob("*"))])


def _anchored(uri: str, home: Path) -> str:
    """`uri`, its path beginning at `home` where it is a relative one."""
    if uri.startswith(_SQLITE):
        path = uri.removeprefix(_SQLITE)
        return (
            uri
            if path.startswith((":memory:", "file:")) or not path
            else f"{_SQLITE}{path if path.startswith('/') else f'{_encoded(home)}/{path}'}"
        )
    if uri.startswith("file:"):
        path = uri.removeprefix("file:")
        return uri if path.startswith("/") else f"{home.as_uri()}/{path}"
    return uri if ":" in uri or uri.startswith("databricks") else str(home / uri)


def _encoded(path: Path) -> str:
    """`path` as SQLAlchemy takes it in the address of a database: but for these two characters as it is."""
    return str(path).replace("%", "%25").replace("?", "%3F")
