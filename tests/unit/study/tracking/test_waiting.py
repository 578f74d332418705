"""Work on a server that makes no progress is given up; any other one is waited for."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from study.tracking.place import TrackingError
from study.tracking.waiting import in_time


def test_what_makes_progress_is_waited_for() -> None:
    def work(on_progress: Callable[[], None]) -> str:
        for _ in range(8):
            time.sleep(0.1)
            on_progress()
        return "done"

    assert in_time(work, 0.5) == "done"


def test_what_makes_none_is_given_up() -> None:
    began = time.monotonic()
    with pytest.raises(TrackingError, match="the server that MLFLOW_TRACKING_URI names made no progress in 0 s"):
        in_time(lambda on_progress: time.sleep(60), 0.2)
    assert time.monotonic() - began < 30


def test_its_errors_are_those_of_the_work() -> None:
    def work(on_progress: Callable[[], None]) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        in_time(work)
