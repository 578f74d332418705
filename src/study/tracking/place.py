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
        return self.uri == _default(self.home)

    @property
    def database(self) -> Path | None:
        """The file of an SQLite store; None for any other store."""
        path = self.uri.removeprefix(_SQLITE)
        return None if path == self.uri or not path else Path(path)

    @property
    def artifacts(self) -> str | None:
        """Where a new experiment keeps its files. None: the store decides, since others reach it and not this disk."""
        local = self.uri.startswith((_SQLITE, "file:")) or "://" not in self.uri
        return (self.home / "mlruns").as_uri() if local else None


def place_of(root: Path) -> Place:
    """The store of the repository at `root`.

    A stage of `dvc exp run --temp` runs in a folder that DVC deletes afterwards, and finds the user's own repository
    in DVC_ROOT.

    Raises:
        TrackingError: MLflow cannot keep anything there.
    """
    home = Path(os.environ.get("DVC_ROOT") or root).absolute()
    uri = os.environ.get("MLFLOW_TRACKING_URI") or _default(home)
    place = Place(home, uri, os.environ.get("MLFLOW_EXPERIMENT_NAME") or "turnover")
    installed = importlib.util.find_spec("mlflow")
    for path in (place.database, installed and installed.origin):
        if place.database is not None and "%" in str(path):
            raise TrackingError(
                f"MLflow cannot make a database with a folder whose name holds a %, {Path(str(path)).parent}: "
                "rename the folder, or let MLFLOW_TRACKING_URI name a store elsewhere"
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


def _default(home: Path) -> str:
    return f"{_SQLITE}{home / 'mlflow.db'}"
