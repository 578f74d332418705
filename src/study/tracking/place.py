"""Where runs are kept: `mlflow.db` and `mlruns` in the repository, or what MLFLOW_TRACKING_URI names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

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
    if place.database is not None and "%" in str(place.database):
        raise TrackingError(
            f"MLflow cannot make a database in a folder whose name holds a %, {place.database.parent}: "
            "rename the folder, or set MLFLOW_TRACKING_URI to sqlite:///PATH with another path"
        )
    return place


def local_path(uri: str) -> Path | None:
    """The path that an artifact URI names on this machine's disk; None where it is on a server. URIs are encoded."""
    if uri.startswith("/"):
        return Path(uri)
    parts = urlsplit(uri)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


def _default(home: Path) -> str:
    return f"{_SQLITE}{home / 'mlflow.db'}"
