"""The runs of an experiment: made, filled, found, ended."""

from __future__ import annotations

import logging
import os
import socket
import sqlite3
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from study.tracking import notes
from study.tracking.place import TrackingError, place_of

KEY, PARENT, OWNER = "turnover.key", "mlflow.parentRunId", "turnover.owner"
EXPERIMENT = "turnover.experiment"  # the experiment of DVC that a run belongs to
log = logging.getLogger(__name__)
_NOISY = ("mlflow", "alembic", "sqlalchemy", "urllib3", "git")


@dataclass(frozen=True)
class Value:
    """One value of a metric."""

    name: str
    value: float
    step: int = 0
    time: float = field(default_factory=time.time)  # seconds


def silence() -> None:
    """Settle MLflow's settings for this process, before its import: quiet, and soon done with a dead server."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.pop("MLFLOW_RUN_ID", None)  # would make somebody else's run the active one
    # A stage shares this process: what it says itself stays as loud as it was.
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module=name)


class Store:
    """The experiment's runs.

    Args:
        root: the repository.

    Raises:
        TrackingError: the database cannot be written or belongs to another folder, or the experiment was deleted.
        Exception: whatever MLflow raises when a server does not answer.
    """

    def __init__(self, root: Path) -> None:
        self.place = place_of(root)
        self._owner = f"{socket.gethostname()}:{root.absolute()}"
        with _sole(self.place.database) as size:
            import mlflow

            if self.place.database is not None and not size:
                self._make(self.place.database, emptied=size == 0)
            self.client = mlflow.MlflowClient(self.place.uri)
            experiment = self._experiment()
        self.experiment_id: str = experiment.experiment_id

    def _make(self, database: Path, *, emptied: bool) -> None:
        """A new database, whose default experiment has its files where ours has them.

        MLflow would write the place of these by hand, and stumble over an apostrophe in it.
        """
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        if emptied:
            log.warning(
                "%s was empty: the runs of what is finished are added again, any others in it are lost", database.name
            )
        SqlAlchemyStore(self.place.uri, self.place.artifacts)  # type: ignore[no-untyped-call]

    def _experiment(self) -> Any:
        import mlflow

        name, artifacts = self.place.experiment, self.place.artifacts
        found = self.client.get_experiment_by_name(name)
        if found is None:
            # With a server, another process may be faster: then its experiment is found below.
            with suppress(mlflow.MlflowException):
                self.client.create_experiment(name, artifact_location=artifacts, tags=notes.EXPERIMENT)
            found = self.client.get_experiment_by_name(name)
        if found is None:
            raise TrackingError(f"experiment {name!r} could not be created")
        if found.lifecycle_stage == "deleted":
            raise TrackingError(
                f"experiment {name!r} was deleted in MLflow: bring it back with `mlflow experiments restore "
                f"--experiment-id {found.experiment_id}`, or set MLFLOW_EXPERIMENT_NAME to another name"
            )
        if self.place.default and found.artifact_location != artifacts:
            raise TrackingError(
                f"mlflow.db was made elsewhere and keeps its files in {found.artifact_location}: remove mlflow.db "
                "and mlruns, and `make repro` makes them again"
            )
        return found

    def finished(self) -> dict[str, tuple[str, dict[str, str]]]:
        """Key -> id and tags of the FINISHED run that has it and whose files are there; the one that stays, of two."""
        found = {}
        for run in self._search("attributes.status = 'FINISHED'"):
            path = local_path(run.info.artifact_uri) if self.place.database is not None else None
            if KEY in run.data.tags and (path is None or path.exists()):  # `mlruns` may have been deleted
                found[run.data.tags[KEY]] = run.info.run_id, run.data.tags
        return found

    def end_orphans(self) -> None:
        """End as KILLED what this repository left RUNNING on this machine: nothing trains while this is called.

        But for experiments of DVC in folders of their own, which are ended once their folder is gone.
        """
        temporary = f"{socket.gethostname()}:{self.place.home / '.dvc' / 'tmp'}/"
        for run in self._search("attributes.status = 'RUNNING'"):
            owner = run.data.tags.get(OWNER, "")
            gone = owner.startswith(temporary) and not Path(owner.partition(":")[2]).exists()
            if owner == self._owner or gone:
                self.client.set_terminated(run.info.run_id, "KILLED")

    def start(self, name: str, tags: Mapping[str, str], params: Mapping[str, str], parent: str | None = None) -> str:
        """A new run, nested below `parent`; one of an experiment of DVC is called after both. Returns its id."""
        from mlflow.entities import Param

        name = f"{name} ({tags[EXPERIMENT]})" if EXPERIMENT in tags else name
        tags = {**tags, OWNER: self._owner, **({PARENT: parent} if parent else {})}
        run_id: str = self.client.create_run(self.experiment_id, tags=tags, run_name=name).info.run_id
        self.client.log_batch(run_id, params=[Param(key, value[:6000]) for key, value in params.items()])
        return run_id

    def log(self, run_id: str, values: Iterable[Value]) -> None:
        """Values of metrics, in as few calls as MLflow allows."""
        from mlflow.entities import Metric

        metrics = [Metric(v.name, v.value, int(v.time * 1000), v.step) for v in values]
        for first in range(0, len(metrics), 1000):
            self.client.log_batch(run_id, metrics=metrics[first : first + 1000])

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Tags, whatever the run had under their names."""
        from mlflow.entities import RunTag

        self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def finish(self, run_id: str, key: str) -> None:
        """The run is complete: of all runs with its key the newest stays, whoever else finishes one meanwhile."""
        from mlflow import MlflowException

        self.tag(run_id, {KEY: key})
        self.client.set_terminated(run_id, "FINISHED")
        for run in self._search(f"attributes.status = 'FINISHED' and tags.`{KEY}` = '{key}'")[:-1]:
            with suppress(MlflowException):  # somebody else deleted it
                self.client.delete_run(run.info.run_id)

    @contextmanager
    def active(self, run_id: str) -> Iterator[None]:
        """Make the run MLflow's active one, which logging a model needs; its status stays what it is."""
        import mlflow

        before = os.environ.get("MLFLOW_TRACKING_URI")
        info = self.client.get_run(run_id).info
        mlflow.set_tracking_uri(self.place.uri)
        mlflow.start_run(run_id=run_id)
        try:
            yield
        finally:
            mlflow.end_run("RUNNING")
            if info.status != "RUNNING":
                self.client.set_terminated(run_id, info.status, info.end_time)
            # MLflow wrote its own into the environment, where the next store would take it for the user's wish.
            mlflow.set_tracking_uri(before)  # type: ignore[arg-type]  # None unsets it

    def _search(self, filters: str) -> list[Any]:
        """By start, and the same in every process that looks: of two runs of one key all must keep the same one."""
        found = self.client.search_runs([self.experiment_id], filters, max_results=50_000)  # the most it takes
        return sorted(found, key=lambda run: (run.info.start_time, run.info.run_id))


def reason(error: BaseException) -> str:
    """An error of MLflow in one line of bearable length."""
    if isinstance(error, TrackingError):
        return str(error)
    if "Max retries exceeded" in str(error):  # the rest would quote the address, which may hold a password
        return "the server that MLFLOW_TRACKING_URI names does not answer"
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if len(text) <= 200 else text[:200] + "..."


@contextmanager
def _sole(database: Path | None) -> Iterator[int | None]:
    """Alone with an SQLite database: processes that create it at the same time crash each other.

    Yields:
        its bytes; None where it is not there yet, or no file.
    """
    if database is None:
        yield None
        return
    from filelock import FileLock

    try:
        with FileLock(f"{database}.lock", timeout=60):
            size = database.stat().st_size if database.exists() else None
            # MLflow itself would retry for minutes.
            with closing(sqlite3.connect(database, timeout=20)) as opened:
                opened.execute("BEGIN IMMEDIATE")
                opened.rollback()
                (found,) = opened.execute("PRAGMA quick_check(1)").fetchone()
                if found != "ok":
                    raise sqlite3.DatabaseError(found)
            yield size
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise TrackingError(f"{database.name} cannot be written: {error}") from error
        raise TrackingError(
            f"{database.name} is damaged, {error}: remove it, and mlruns beside it; the next `make repro` makes the "
            "runs of the present results again"
        ) from error
    except OSError as error:
        raise TrackingError(f"{database.name} cannot be written: {error}") from error


def local_path(uri: str) -> Path | None:
    """The path that an artifact URI names on this machine's disk; None where it is on a server. URIs are encoded."""
    if uri.startswith("/"):
        return Path(uri)
    parts = urlsplit(uri)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None
