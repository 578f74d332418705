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
from queue import SimpleQueue

from study.context.fingerprint import fingerprint
from study.context.runs import Run
from study.context.stage import Stage
from study.tracking.content import Results, item_name, log_dataset, log_item, log_training, run_tags, training_params
from study.tracking.notes import NOTE, item_note, training_note
from study.tracking.store import PARENT, Store, Value, reason, silence

# Seconds that a stage whose work is done waits for MLflow: enough for its start after a very short training, ...
PATIENCE = 60.0
# ... and that one waits that failed or was asked to leave.
LEAVING = 5.0


class _Recorder:
    """The runs of a stage in MLflow, one for the item and one below it for every seed; lives in the thread.

    Raises:
        TrackingError: MLflow cannot be used.
        Exception: what MLflow raises when it fails; so do all methods.
    """

    def __init__(self, stage: Stage, key: str) -> None:
        silence()
        self.ended = False
        self._stage, self._key = stage, key
        self._store = Store(stage.root)
        self._present = self._store.finished()
        self._tags = run_tags(stage, "live")
        note = {NOTE: item_note(stage, [run.seed for run in stage.runs()])}
        self._parent = self._store.start(item_name(stage), {**self._tags, **note}, training_params(stage))
        self._training: dict[Run, tuple[str, set[int]]] = {}  # id of its run, epochs that this has
        self._results: dict[str, Results] = {}

    def resolved(self, values: Mapping[str, str]) -> None:
        self._store.tag(self._parent, {f"turnover.{key}": value for key, value in values.items()})

    def epoch(self, run: Run, number: int, metrics: Mapping[str, float], at: float) -> None:
        run_id, seen = self._run_of(run)
        self._store.log(run_id, [Value(name, value, number, at) for name, value in metrics.items()])
        seen.add(number)

    def finished(self, run: Run, key: str, results: Results) -> None:
        self._results[run.name] = results
        if key in self._present and run not in self._training:
            # It was trained before, and nothing of it has changed.
            self._store.tag(self._present[key][0], {PARENT: self._parent})
            return
        run_id, seen = self._run_of(run)
        log_training(self._store, run_id, results, seen)
        self._store.finish(run_id, key)
        del self._training[run]

    def end(self, status: str) -> None:
        """The stage ends, and whatever has not finished with it."""
        self.ended = True
        for run_id, _ in self._training.values():
            self._store.client.set_terminated(run_id, status)
        if status == "FINISHED":
            log_item(self._store, self._parent, self._results)
            self._store.finish(self._parent, self._key)
        else:
            self._store.client.set_terminated(self._parent, status)

    def _run_of(self, run: Run) -> tuple[str, set[int]]:
        if run not in self._training:
            tags = {**self._tags, NOTE: training_note(self._stage, run)}
            run_id = self._store.start(run.name, tags, training_params(self._stage, run), self._parent)
            self._training[run] = run_id, set()
            log_dataset(self._store, run_id, self._stage)
        return self._training[run]


class Tracker:
    """What a training stage reports; every call returns at once and none raises because of MLflow.

    Calls belong to the process that made the tracker, not to its workers.

    Args:
        stage: an item of stage `train`; None where nothing is tracked.
    """

    def __init__(self, stage: Stage | None) -> None:
        self._stage = stage
        self._key = "" if stage is None else fingerprint(stage)
        self._calls: SimpleQueue[Callable[[_Recorder], None]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def resolved(self, **values: str) -> None:
        """What ``auto`` settings came to on this machine: tags, since they are no settings."""
        self._calls.put(lambda recorder: recorder.resolved(values))

    def epoch(self, run: Run, number: int, metrics: Mapping[str, float]) -> None:
        """Metrics of a seed after an epoch, counted from 1."""
        at, kept = time.time(), dict(metrics)
        self._record(lambda recorder: recorder.epoch(run, number, kept, at))

    def finished(self, run: Run, key: str, folder: Path) -> None:
        """The results of a seed are complete.

        Args:
            run: the seed.
            key: the fingerprint of what made them.
            folder: where they are, laid out as `runs/...`; read before this returns.
        """
        if self._stage is None:
            return
        try:
            results = Results.read(folder)
        except (OSError, ValueError) as error:
            self._give_up(f"the results of {run.name} cannot be read: {error}")
            return
        self._record(lambda recorder: recorder.finished(run, key, results))

    def close(self, status: str) -> None:
        """End the runs that have not ended. Waits for MLflow, within bounds."""
        if self._thread is None and status != "FINISHED":
            return  # it ended before its first epoch: nothing to record
        self._record(lambda recorder: recorder.end(status))
        if self._stage is None or self._thread is None:
            return
        patience = PATIENCE if status == "FINISHED" else LEAVING
        self._thread.join(patience)
        if self._thread.is_alive() and status == "FINISHED":
            self._give_up(f"it took longer than {patience:.0f} s after the training")

    def _record(self, call: Callable[[_Recorder], None]) -> None:
        if self._stage is None:
            return
        self._calls.put(call)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, args=(self._stage,), name="mlflow", daemon=True)
            self._thread.start()

    def _work(self, stage: Stage) -> None:
        try:
            recorder = _Recorder(stage, self._key)
            try:
                while not recorder.ended:
                    self._calls.get()(recorder)
            except Exception:
                recorder.end("FAILED")
                raise
        except Exception as error:
            self._give_up(reason(error))

    def _give_up(self, why: str) -> None:
        if self._stage is not None:
            self._stage = None  # nobody listens any more
            print(
                f"warning: this training is not tracked in MLflow ({why}); the results are not affected, and "
                "`make repro` records them afterwards",
                file=sys.stderr,
                flush=True,
            )


@contextmanager
def track(stage: Stage) -> Iterator[Tracker]:
    """Record an item of stage `train` in MLflow while it works: a run, and one below it for every seed.

    A body that raises leaves the runs of what had not finished FAILED, one that is interrupted KILLED. An MLflow that
    cannot be used gives one warning. ``TURNOVER_TRACKING=off`` switches tracking off.
    """
    tracker = Tracker(None if os.environ.get("TURNOVER_TRACKING") == "off" else stage)
    status = "KILLED"
    try:
        yield tracker
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        tracker.close(status)
