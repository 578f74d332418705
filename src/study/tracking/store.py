"""Where runs are kept: `mlflow.db` and `mlruns` at the repository root, or what MLFLOW_TRACKING_URI names."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEY = "turnover.key"


class TrackingError(Exception):
    """MLflow cannot be used, in words for the user."""


@dataclass(frozen=True)
class Value:
    """One value of a metric."""

    name: str
    value: float
    step: int = 0
    time: float | None = None  # seconds; None: now


def silence() -> None:
    """Settle MLflow's settings for this process, before its import: quiet, and soon done with a dead server."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.pop("MLFLOW_RUN_ID", None)  # would make somebody else's run the active one
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")


class Store:
    """The experiment's runs.

    Raises:
        TrackingError: the database cannot be written, or belongs to another folder.
        Exception: whatever MLflow raises when a server does not answer.
    """

    def __init__(self, root: Path) -> None:
        default = f"sqlite:///{root / 'mlflow.db'}"
        uri = os.environ.get("MLFLOW_TRACKING_URI") or default
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "turnover"
        artifacts = None if uri.startswith("http") else (root / "mlruns").as_uri()
        with _sole(uri):
            import mlflow

            self.uri = uri
            self.client = mlflow.MlflowClient(uri)
            if self.client.get_experiment_by_name(name) is None:
                # With a server, another process may be faster: then its experiment is found below.
                with suppress(mlflow.MlflowException):
                    self.client.create_experiment(name, artifact_location=artifacts)
            experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            raise TrackingError(f"experiment {name!r} could not be created")
        if uri == default and experiment.artifact_location != artifacts:
            raise TrackingError(
                f"mlflow.db was made elsewhere and keeps its files in {experiment.artifact_location}: remove mlflow.db "
                "and mlruns, and `make repro` makes them again"
            )
        self.experiment_id: str = experiment.experiment_id

    def finished(self) -> dict[str, list[str]]:
        """Key -> ids of the FINISHED runs that have it and whose files are there."""
        found: dict[str, list[str]] = {}
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id], "attributes.status = 'FINISHED'", max_results=1000, page_token=token
            )
            for run in page:
                if KEY in run.data.tags and _files_there(run.info.artifact_uri):
                    found.setdefault(run.data.tags[KEY], []).append(run.info.run_id)
            token = page.token
            if not token:
                return found

    def start(self, name: str, tags: Mapping[str, str], params: Mapping[str, str]) -> str:
        """A new run. Returns its id."""
        from mlflow.entities import Param

        run_id: str = self.client.create_run(self.experiment_id, tags=dict(tags), run_name=name).info.run_id
        self.client.log_batch(run_id, params=[Param(key, value[:6000]) for key, value in params.items()])
        return run_id

    def log(self, run_id: str, values: Iterable[Value]) -> None:
        """Values of metrics, in as few calls as MLflow allows."""
        from mlflow.entities import Metric

        metrics = [Metric(v.name, v.value, int((v.time or time.time()) * 1000), v.step) for v in values]
        for first in range(0, len(metrics), 1000):
            self.client.log_batch(run_id, metrics=metrics[first : first + 1000])

    def finish(self, run_id: str, key: str) -> None:
        """The run is complete: it takes the place of any older one with its key."""
        self.client.set_terminated(run_id, "FINISHED")
        same = f"attributes.status = 'FINISHED' and tags.`{KEY}` = '{key}'"
        for run in self.client.search_runs([self.experiment_id], same):
            if run.info.run_id != run_id:
                self.client.delete_run(run.info.run_id)

    @contextmanager
    def active(self, run_id: str) -> Iterator[None]:
        """Make the run MLflow's active one, which logging a model needs; its status stays RUNNING."""
        import mlflow

        before = os.environ.get("MLFLOW_TRACKING_URI")
        mlflow.set_tracking_uri(self.uri)
        mlflow.start_run(run_id=run_id)
        try:
            yield
        finally:
            mlflow.end_run("RUNNING")
            # MLflow wrote its own into the environment, where the next store would take it for the user's wish.
            mlflow.set_tracking_uri(before)  # type: ignore[arg-type]  # None unsets it


def reason(error: BaseException) -> str:
    """An error of MLflow in one line of bearable length."""
    if isinstance(error, TrackingError):
        return str(error)
    if "Max retries exceeded" in str(error):  # the rest would quote the address, which may hold a password
        return "the server that MLFLOW_TRACKING_URI names does not answer"
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if len(text) <= 200 else text[:200] + "..."


@contextmanager
def _sole(uri: str) -> Iterator[None]:
    """Alone with an SQLite database: processes that create it at the same time crash each other."""
    path = uri.removeprefix("sqlite:///")
    if path == uri:
        yield
        return
    from filelock import FileLock

    try:
        with FileLock(f"{path}.lock", timeout=60):
            # MLflow itself would retry for minutes.
            with closing(sqlite3.connect(path, timeout=20)) as database:
                database.execute("BEGIN IMMEDIATE")
                database.rollback()
            yield
    except (OSError, sqlite3.Error) as error:
        raise TrackingError(f"{Path(path).name} cannot be written: {error}") from error


def _files_there(artifact_uri: str) -> bool:
    """Whether a run's files are there, as far as that can be seen from here: `mlruns` may have been deleted."""
    path = artifact_uri.removeprefix("file://")
    return not path.startswith("/") or Path(path).exists()


def flat(values: Mapping[str, Any], prefix: str = "", separator: str = ".") -> dict[str, Any]:
    """Nested mappings as one, their keys joined."""
    joined: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            joined.update(flat(value, f"{prefix}{key}{separator}", separator))
        else:
            joined[f"{prefix}{key}"] = value
    return joined
