"""All that belongs into MLflow: a run each for the trainings' items and seeds, the validation sets, and the report."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from study.context.fingerprint import content_hash, fingerprint, hash_of
from study.context.params import Params
from study.context.runs import Run, runs_of
from study.context.stage import Stage
from study.tracking.content import (
    Results,
    item_name,
    key_of,
    log_dataset,
    log_files,
    log_item,
    log_training,
    numbers,
    texts,
    training_params,
)
from study.tracking.place import TrackingError
from study.tracking.store import Store


@dataclass(frozen=True)
class Item:
    """A run that MLflow should have."""

    stage: Stage
    name: str
    key: str
    params: Mapping[str, str]
    log: Callable[[Store, str], None]  # logs everything but params and tags to the run with that id
    run: Run | None = None  # of a training
    parent: str | None = None  # key of the run above it


def changed_stages(root: Path) -> dict[str, str]:
    """The stages that DVC says are not up to date, each with what is not: what they left was made by something else.

    Raises:
        TrackingError: DVC cannot tell.
    """
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip() or "it says nothing").splitlines()[-1]
        raise TrackingError(f"`dvc status` fails: {said.removeprefix('ERROR: ')}")
    found: dict[str, list[object]] = json.loads(done.stdout)
    return {name: _what(changes) for name, changes in found.items()}


def _what(changes: list[object]) -> str:
    """Such as ``src/turnover/masking modified``: the first path of DVC's list, or ``changed command``."""
    for change in changes:
        if not isinstance(change, dict):
            return str(change)
        for paths in change.values():
            for path, state in paths.items():
                return f"{path} {state}" if isinstance(state, str) else f"{next(iter(state))} of {path} changed"
    return "changed"


def train_items(root: Path, params: Params, scenario: str, placement: str) -> Iterator[Item]:
    """The run of an item of stage `train`, and those of its seeds."""
    stage = Stage(root, "train", {"scenario": scenario, "placement": placement})
    runs = runs_of(params, scenario, placement)
    results = {run: Results.read(root / run.folder, key_of(root, run)) for run in runs}
    parent = fingerprint(stage)

    def log_parent(store: Store, run_id: str) -> None:
        log_item(store, run_id, {run.name: found.final for run, found in results.items()})

    yield Item(stage, item_name(stage), parent, training_params(stage), log_parent)
    for run, found in results.items():

        def log(store: Store, run_id: str, found: Results = found) -> None:
            log_dataset(store, run_id, stage)
            log_training(store, run_id, found)

        yield Item(stage, run.name, found.key, training_params(stage, run), log, run, parent)


def validation_item(root: Path, validation_set: str, *, figure: bool) -> Item:
    """The run of a validation set, with its figure where that is up to date."""
    stage = Stage(root, "validate", {"validation_set": validation_set})
    folder = root / f"reports/validation/{validation_set}"
    drawn = sorted((root / "reports/figures").glob(f"validation-{validation_set}.*")) if figure else []
    key = hash_of({"stage": fingerprint(stage), "figure": {path.name: content_hash(path) for path in drawn}})

    def log(store: Store, run_id: str) -> None:
        with (folder / "table.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        store.client.log_table(run_id, {name: [row[name] for row in rows] for name in rows[0]}, "table.json")
        log_files(store, run_id, sorted(folder.iterdir()))
        log_files(store, run_id, [path for path in drawn if path.suffix != ".csv"])
        store.log(run_id, numbers(json.loads((folder / "result.json").read_text(encoding="utf-8")), ""))

    raw = stage.raw_params
    settings = {"validation": raw["validation"][validation_set], "retrain": raw["retrain"]}
    return Item(stage, f"validation {validation_set}", key, texts({**settings, "comparison": raw["comparison"]}), log)


def report_item(root: Path) -> Item:
    """The run of the report: what it says in numbers, its pages and its figures."""
    stage = Stage(root, "report", {})
    headline = json.loads((root / "reports/headline.json").read_text(encoding="utf-8"))

    def log(store: Store, run_id: str) -> None:
        log_files(store, run_id, [root / "reports/index.html", root / "reports/report.md"])
        figures = sorted((root / "reports/figures").iterdir())
        log_files(store, run_id, [path for path in figures if path.suffix in (".png", ".svg")], "figures")
        store.log(run_id, numbers(headline, ""))

    raw = stage.raw_params
    params = texts({key: raw[key] for key in ("scenarios", "placements", "seeds", "validation_sets", "figures")})
    return Item(stage, "report", hash_of({"stage": fingerprint(stage), "headline": headline}), params, log)
