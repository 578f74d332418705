"""Writes to MLflow what a training stage reports: one run for the item, one below it for every seed."""

from __future__ import annotations

import queue
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from study.context.runs import Run
from study.context.stage import Stage
from study.tracking.content import Results, item_name, log_dataset, log_item, log_training, run_tags, training_params
from study.tracking.store import PARENT, Known, Store, Value, silence


@dataclass(frozen=True)
class Resolved:
    """What ``auto`` settings came to."""

    values: Mapping[str, str]


@dataclass(frozen=True)
class Epoch:
    """A seed has done an epoch."""

    run: Run
    number: int
    metrics: Mapping[str, float]
    time: float


@dataclass(frozen=True)
class Finished:
    """A seed is done."""

    run: Run
    results: Results


@dataclass(frozen=True)
class Ended:
    """The stage ends, and whatever has not finished with it."""

    status: str


Message = Resolved | Epoch | Finished | Ended


@dataclass
class _Child:
    """The run of a seed that is training."""

    run_id: str
    seen: set[int] = field(default_factory=set)


class Recorder:
    """Messages of a stage, and what becomes of them.

    Args:
        stage: an item of stage `train`.
        key: its fingerprint.
    """

    def __init__(self, stage: Stage, key: str) -> None:
        self.messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._stage = stage
        self._key = key
        self._training: dict[Run, _Child] = {}
        self._finals: dict[str, Mapping[str, Any]] = {}
        self._present: dict[str, Known] = {}

    def record(self) -> None:
        """Record messages until the one that ends the stage.

        Raises:
            TrackingError: MLflow cannot be used.
            Exception: what MLflow raises when it fails.
        """
        silence()
        store = Store(self._stage.root)
        store.end_orphans()
        self._present = store.finished()
        self._tags = run_tags(self._stage, "live")
        tags = run_tags(self._stage, "live", self._key)
        parent = store.start(item_name(self._stage), tags, training_params(self._stage))
        status = "FAILED"
        try:
            status = self._follow(store, parent)
        finally:
            for child in self._training.values():
                store.client.set_terminated(child.run_id, status)
            if status != "FINISHED":
                store.client.set_terminated(parent, status)
        log_item(store, parent, self._finals)
        store.finish(parent, self._key)

    def _follow(self, store: Store, parent: str) -> str:
        """Log what comes in. Returns the status that the stage ended with."""
        while True:
            message = self.messages.get()
            match message:
                case Resolved(values):
                    store.tag(parent, **values)
                case Epoch(run, number, metrics, at):
                    child = self._child(store, parent, run)
                    store.log(child.run_id, [Value(name, value, number, at) for name, value in metrics.items()])
                    child.seen.add(number)
                case Finished(run, results):
                    self._finish(store, parent, run, results)
                case Ended(status):
                    return status

    def _child(self, store: Store, parent: str, run: Run) -> _Child:
        if run not in self._training:
            run_id = store.start(run.name, self._tags, training_params(self._stage, run), parent)
            self._training[run] = _Child(run_id)
            log_dataset(store, run_id, self._stage)
        return self._training[run]

    def _finish(self, store: Store, parent: str, run: Run, results: Results) -> None:
        self._finals[run.name] = results.final
        known = self._present.get(results.key)
        if known is not None and run not in self._training:
            store.log(known.run_id, (), {PARENT: parent})  # it was trained before, and nothing of it has changed
            return
        child = self._child(store, parent, run)
        log_training(store, child.run_id, results, child.seen)
        store.finish(child.run_id, results.key)
        del self._training[run]
