"""The process beside a training that writes to MLflow what the training sends through a pipe, a JSON line each."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from study.context.fingerprint import fingerprint
from study.context.runs import Run
from study.context.stage import Stage
from study.tracking.content import log_dataset, log_training, run_tags, training_params
from study.tracking.live import warn
from study.tracking.store import Store, Value, reason, silence


def record(lines: Iterable[str], stage: Stage, run: Run) -> None:
    """Record a training as one run. Lines that end without an `end` are those of a killed training."""
    key = fingerprint(stage)
    store = Store(stage.root)
    run_id = store.start(run.name, run_tags(stage, key, "live"), training_params(stage, run))
    status = "FAILED"
    try:
        log_dataset(store, run_id, stage, run)
        status = _follow(lines, store, run_id, stage.root, run)
        if status == "FINISHED":
            store.finish(run_id, key)
    finally:
        if status != "FINISHED":
            store.client.set_terminated(run_id, status)


def _follow(lines: Iterable[str], store: Store, run_id: str, root: Path, run: Run) -> str:
    """Log what comes in. Returns the run's status."""
    seen: set[int] = set()
    for line in lines:
        message: dict[str, Any] = json.loads(line)
        match message["event"]:
            case "resolved":
                for name, value in message["values"].items():
                    store.client.set_tag(run_id, f"turnover.{name}", value)
            case "epoch":
                number, at = message["number"], message["time"]
                store.log(run_id, [Value(k, v, number, at) for k, v in message["metrics"].items()])
                if not seen:
                    _prepare()
                seen.add(number)
            case "results":
                log_training(store, run_id, root, run, seen)
            case "end":
                return str(message["status"])
    return "KILLED"


def _prepare() -> None:
    """Import now, while the training has other things to do, what the model will need at the end."""
    import mlflow.pytorch  # noqa: F401
    import torch

    import study.networks  # noqa: F401

    torch.set_num_threads(1)


def main() -> None:
    """Entry point; the argument is the JSON text that `study.tracking.live` made."""
    parser = argparse.ArgumentParser(prog="python -m study.tracking.recorder", description=__doc__)
    parser.add_argument("job", type=json.loads, help="JSON text that study.tracking.live makes: not for people")
    job: dict[str, Any] = parser.parse_args().job
    silence()
    try:
        record(sys.stdin, Stage(Path(job["root"]), job["stage"], job["item"]), Run.parse(job["run"]))
    except Exception as error:
        warn(reason(error))


if __name__ == "__main__":
    main()
