"""The side of tracking that stages see: hand over what happens, never wait for MLflow while working.

A thread does everything that concerns MLflow, its import of 4 s included. That thread starts with the first report: by
then a stage has forked its workers. A process forked later could inherit a lock that the import holds, and wait on it
for ever.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from study.context.fingerprint import fingerprint
from study.context.params import check_params
from study.context.runs import Run, masked_runs_of
from study.context.stage import Stage
from study.tracking.content import ESTIMATES, Results, estimates_of, key_of, log_estimates_of
from study.tracking.place import place_of
from study.tracking.recorder import Ended, Epoch, Finished, Message, Recorder, Resolved
from study.tracking.store import Store, reason, silence

# Seconds that a stage whose work is done waits for MLflow: enough for its start after a very short training, ...
PATIENCE = 60.0
# ... and that one waits that failed or was asked to leave.
LEAVING = 5.0


class Tracker:
    """What a training stage reports; every call returns at once and none raises because of MLflow.

    Calls belong to the process that made the tracker, not to its workers.
    """

    def __init__(self, recorder: Recorder | None) -> None:
        self._recorder = recorder
        self._thread: threading.Thread | None = None
        self._warned = False

    def resolved(self, **values: str) -> None:
        """What ``auto`` settings came to on this machine: tags, since they are no settings."""
        self._put(Resolved(values))

    def epoch(self, run: Run, number: int, metrics: Mapping[str, float]) -> None:
        """Metrics of a seed after an epoch, counted from 1."""
        self._put(Epoch(run, number, dict(metrics), time.time()))
        self._start()

    def finished(self, run: Run, key: str, folder: Path) -> None:
        """The results of a seed are complete.

        Args:
            run: the seed.
            key: the fingerprint of what made them.
            folder: where they are, laid out as `runs/...`; read before this returns.
        """
        if self._recorder is None:
            return
        try:
            results = Results.read(folder, key)
        except (OSError, ValueError) as error:
            self._warn(f"the results of {run.name} cannot be read: {error}")
            return
        self._put(Finished(run, results))
        self._start()

    def close(self, status: str) -> None:
        """End the runs that have not ended. Waits for MLflow, within bounds."""
        if self._recorder is None or (self._thread is None and status != "FINISHED"):
            return  # it ended before its first epoch: nothing to record
        self._put(Ended(status))
        self._start()
        patience = PATIENCE if status == "FINISHED" else LEAVING
        if self._thread is not None:
            self._thread.join(patience)
            if self._thread.is_alive() and status == "FINISHED":
                self._warn(f"it took longer than {patience:.0f} s after the training")

    def _put(self, message: Message) -> None:
        if self._recorder is not None:
            self._recorder.messages.put(message)

    def _start(self) -> None:
        if self._recorder is None or self._thread is not None:
            return
        self._thread = threading.Thread(target=self._record, args=(self._recorder,), name="mlflow", daemon=True)
        self._thread.start()

    def _record(self, recorder: Recorder) -> None:
        try:
            recorder.record()
        except Exception as error:
            self._warn(reason(error))

    def _warn(self, why: str) -> None:
        self._recorder = None  # nobody listens any more
        if not self._warned:
            self._warned = True
            warn("this training is not tracked", why)


@contextmanager
def track(stage: Stage) -> Iterator[Tracker]:
    """Record an item of stage `train` in MLflow while it works: a run, and one below it for every seed.

    A body that raises leaves the runs of what had not finished FAILED, one that is interrupted KILLED. An MLflow that
    cannot be used gives one warning. ``TURNOVER_TRACKING=off`` switches tracking off.
    """
    tracker = Tracker(Recorder(stage, fingerprint(stage)) if _wanted() else None)
    status = "KILLED"
    try:
        yield tracker
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        tracker.close(status)


def log_estimates(stage: Stage) -> None:
    """Put what stage `estimate` found onto the runs of its trainings; those without a run are left to the backfill.

    Never raises because of MLflow, and waits at most `PATIENCE`.
    """
    if not _wanted():
        return
    failed: list[str] = []

    def work() -> None:
        try:
            _log_estimates(stage)
        except Exception as error:
            failed.append(reason(error))

    if not _within(PATIENCE, work):
        failed.append(f"it took longer than {PATIENCE:.0f} s")
    if failed:
        warn("these estimates are not tracked", failed[0])


def warn(what: str, why: str) -> None:
    """One line for a stage that goes on without MLflow."""
    print(
        f"warning: {what} in MLflow ({why}); the results are not affected, and `make repro` records them afterwards",
        file=sys.stderr,
        flush=True,
    )


def _log_estimates(stage: Stage) -> None:
    database = place_of(stage.root).database
    if database is not None and not database.exists():
        return  # no run is there to put them on: no reason to import MLflow
    silence()
    store = Store(stage.root)
    known = store.finished()
    for run in masked_runs_of(check_params(stage.raw_params), stage.item["scenario"]):
        training = known.get(key_of(stage.root, run))
        if training is not None and training.tags.get(ESTIMATES) != estimates_of(stage.root, run)[1]:
            log_estimates_of(store, training.run_id, stage.root, run)


def _within(seconds: float, work: Callable[[], None]) -> bool:
    """Do the work in a thread. Returns whether it ended in time."""
    thread = threading.Thread(target=work, name="mlflow", daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


def _wanted() -> bool:
    return os.environ.get("TURNOVER_TRACKING") != "off"
