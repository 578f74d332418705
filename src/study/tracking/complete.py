"""Whether MLflow has everything already, found out without its import, which takes seconds of every `make repro`.

A complete backfill leaves a note beside the database: which `dvc.lock` it was complete for, and which runs that made.
It holds as long as the lock is the same and SQLite still has these runs and the disk their files.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

from study.tracking.place import Place, local_path

_RUNS = """
    SELECT r.run_uuid, r.artifact_uri FROM runs r JOIN experiments e USING (experiment_id)
    WHERE e.name = ? AND r.status = 'FINISHED' AND r.lifecycle_stage = 'active' AND e.lifecycle_stage = 'active'
"""


def note_complete(place: Place, root: Path, runs: Iterable[str]) -> None:
    """Note that the store has all that belongs to the current `dvc.lock`; only of SQLite, which can be asked again.

    Args:
        place: the store.
        root: the repository.
        runs: ids of its runs.
    """
    from study.artefacts.files import write_json  # imports pandas, which whoever only asks can do without

    path = _path(place)
    if path is not None:
        write_json(path, {"experiment": place.experiment, "lock": _lock(root), "runs": sorted(runs)})


def forget_complete(place: Place) -> None:
    """What was noted holds no longer."""
    path = _path(place)
    if path is not None:
        path.unlink(missing_ok=True)


def runs_if_complete(place: Place, root: Path) -> int | None:
    """How many runs there are if nothing is missing; None where that has to be looked up."""
    path, database = _path(place), place.database
    if path is None or database is None or not database.exists():
        return None
    with suppress(OSError, ValueError, KeyError, sqlite3.Error):
        noted = json.loads(path.read_text(encoding="utf-8"))
        if (noted["experiment"], noted["lock"]) != (place.experiment, _lock(root)):
            return None
        with closing(sqlite3.connect(f"file:{quote(str(database))}?mode=ro", uri=True, timeout=5)) as opened:
            there = dict(opened.execute(_RUNS, (place.experiment,)).fetchall())
        if all(run in there and _exists(there[run]) for run in noted["runs"]):
            return len(noted["runs"])
    return None


def _exists(artifact_uri: str) -> bool:
    path = local_path(artifact_uri)
    return path is None or path.exists()


def _path(place: Place) -> Path | None:
    return None if place.database is None else place.database.with_name(f"{place.database.name}.complete")


def _lock(root: Path) -> str:
    return hashlib.sha256((root / "dvc.lock").read_bytes()).hexdigest()
