"""Waiting for a server no longer than it is worth: one that sends a byte a second keeps to every timeout of HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeVar

from study.tracking.place import TrackingError

PATIENCE = 120.0  # seconds from one sign of progress to the next: the largest file of a run goes over a slow line

T = TypeVar("T")


def in_time(work: Callable[[Callable[[], None]], T], patience: float | None = None) -> T:
    """What `work` gives, which calls its argument whenever it has made progress.

    It runs in a thread, which is left alone where it makes none: it may stay for as long as this process lives.

    Raises:
        TrackingError: no progress for `patience` seconds (`PATIENCE`).
        Exception: what `work` raises.
    """
    patience = PATIENCE if patience is None else patience
    said: SimpleQueue[tuple[T] | BaseException | None] = SimpleQueue()

    def run() -> None:
        try:
            said.put((work(lambda: said.put(None)),))
        except BaseException as error:
            said.put(error)

    threading.Thread(target=run, name="mlflow", daemon=True).start()
    while True:
        try:
            found = said.get(timeout=patience)
        except Empty:
            raise TrackingError(
                f"the server that MLFLOW_TRACKING_URI names made no progress in {patience:.0f} s"
            ) from None
        if isinstance(found, BaseException):
            raise found
        if found is not None:
            return found[0]
