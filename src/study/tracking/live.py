"""The training's side of tracking: start the recorder, hand it every epoch, never wait for it while training.

A process of its own, because importing MLflow costs 4 s of one core: in a thread it fights the training for the
interpreter lock and slows it down severalfold, and imported beforehand it delays every training. It also outlives a
training that is killed, and then says so in the run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from study.context.runs import Run
from study.context.stage import Stage

# How long a finished training waits for the recorder: enough for the start of MLflow after a very short training.
PATIENCE = 60.0
_SOURCES = Path(__file__).resolve().parents[2]


class Tracker:
    """What a training reports; every call returns at once and none raises because of MLflow."""

    def __init__(self, recorder: subprocess.Popen[bytes] | None) -> None:
        self._recorder = recorder
        if recorder is not None and recorder.stdin is not None:
            os.set_blocking(recorder.stdin.fileno(), False)

    def resolved(self, **values: str) -> None:
        """What ``auto`` settings came to on this machine: tags, since they are no settings."""
        self._send(event="resolved", values=values)

    def epoch(self, number: int, metrics: Mapping[str, float]) -> None:
        """Metrics after an epoch, counted from 1."""
        self._send(event="epoch", number=number, metrics=dict(metrics), time=time.time())

    def results(self) -> None:
        """The outs are written: record the final metrics, the curve and the model from them."""
        self._send(event="results")

    def close(self, status: str) -> None:
        """End the run. Waits for the recorder, within bounds, only if the training went well."""
        self._send(event="end", status=status)
        if self._recorder is None or self._recorder.stdin is None:
            return
        try:
            self._recorder.stdin.close()
            if status == "FINISHED":
                self._recorder.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._recorder.kill()
            self._recorder.wait()
            warn(f"it took longer than {PATIENCE:.0f} s after the training")
        except OSError:
            pass  # The recorder is gone, and has said why.

    def _send(self, **message: Any) -> None:
        if self._recorder is None or self._recorder.stdin is None:
            return
        # The pipe does not block. What does not fit because the store is slow is made up for by `results`.
        with suppress(OSError):
            os.write(self._recorder.stdin.fileno(), json.dumps(message).encode() + b"\n")


@contextmanager
def track(stage: Stage, run: Run) -> Iterator[Tracker]:
    """Record a training in MLflow while it runs.

    A body that raises leaves its run FAILED, one that is interrupted or killed KILLED. An MLflow that cannot be used
    gives one warning. ``TURNOVER_TRACKING=off`` switches tracking off.
    """
    tracker = Tracker(_start(stage, run))
    status = "KILLED"
    try:
        yield tracker
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        tracker.close(status)


def warn(reason: str) -> None:
    """One line for a training that goes on without MLflow."""
    print(
        f"warning: this training is not tracked in MLflow ({reason}); its results are not affected, "
        "and `make repro` records it afterwards",
        file=sys.stderr,
        flush=True,
    )


def _start(stage: Stage, run: Run) -> subprocess.Popen[bytes] | None:
    if os.environ.get("TURNOVER_TRACKING") == "off":
        return None
    job = {"root": str(stage.root), "stage": stage.name.partition("@")[0], "item": stage.item, "run": run.name}
    path = os.pathsep.join(filter(None, [str(_SOURCES), os.environ.get("PYTHONPATH")]))
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "study.tracking.recorder", json.dumps(job)],
            cwd=stage.root,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the training; the recorder learns of it from the closed pipe
        )
    except OSError as error:
        warn(str(error))
        return None
