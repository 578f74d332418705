"""All that belongs into MLflow: a run each for the trainings' items and seeds, the validation sets, and the report."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from study.context.fingerprint import content_hash, fingerprint, hash_of
from study.context.params import Params
from study.context.runs import CONTROL, Run, runs_of
from study.context.stage import Stage
from study.tracking.content import (
    Results,
    item_name,
    log_dataset,
    log_item,
    log_model,
    log_training,
    numbers,
    read_json,
    texts,
    training_params,
)
from study.tracking.store import Store

Log = Callable[[Store, str], None]  # logs something to the run with that id


@dataclass(frozen=True)
class Part:
    """What a run may still lack when it is finished: it has it where its `tag` has this `value`."""

    tag: str
    value: str
    log: Log


@dataclass(frozen=True)
class Item:
    """A run that MLflow should have."""

    stage: Stage
    name: str
    key: str
    params: Mapping[str, str]
    log: Log  # everything but params, tags and parts
    parts: tuple[Part, ...] = ()
    parent: str | None = None  # key of the run above it


def train_items(root: Path, params: Params, scenario: str, placement: str, *, estimates: bool) -> Iterator[Item]:
    """The run of an item of stage `train`, and those of its seeds, with their estimates where they are up to date."""
    stage = Stage(root, "train", {"scenario": scenario, "placement": placement})
    results = {run: Results.read(root / run.folder) for run in runs_of(params, scenario, placement)}
    # What made a network stands beside it, see docs/decisions.md.
    keys = read_json(root / f"made-by/{item_name(stage)}.json")
    parent = fingerprint(stage)

    def log_parent(store: Store, run_id: str) -> None:
        log_item(store, run_id, {run.name: found.final for run, found in results.items()})

    def item_of(run: Run) -> Item:
        def log(store: Store, run_id: str) -> None:
            log_dataset(store, run_id, stage)
            log_training(store, run_id, results[run])

        parts = [Part("turnover.model", run.name, lambda store, run_id: log_model(store, run_id, root, run))]
        if estimates and placement != CONTROL:
            # On the run of the training itself, so that both are one row of MLflow's table.
            found = read_json(root / run.scores / "metrics.json")
            values = numbers(found, "estimate/")
            parts.append(Part("turnover.estimates", hash_of(found), lambda store, run_id: store.log(run_id, values)))
        return Item(stage, run.name, keys[str(run.seed)], training_params(stage, run), log, tuple(parts), parent)

    yield Item(stage, item_name(stage), parent, training_params(stage), log_parent)
    yield from map(item_of, results)


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
        _log_files(store, run_id, [*folder.iterdir(), *(path for path in drawn if path.suffix != ".csv")])
        store.log(run_id, numbers(read_json(folder / "result.json")))

    raw = stage.raw_params
    settings = {"validation": raw["validation"][validation_set], "retrain": raw["retrain"]}
    return Item(stage, f"validation {validation_set}", key, texts({**settings, "comparison": raw["comparison"]}), log)


def report_item(root: Path) -> Item:
    """The run of the report: what it says in numbers, its pages and its figures."""
    stage = Stage(root, "report", {})
    headline = read_json(root / "reports/headline.json")

    def log(store: Store, run_id: str) -> None:
        _log_files(store, run_id, [root / "reports/index.html", root / "reports/report.md"])
        drawn = [path for path in (root / "reports/figures").iterdir() if path.suffix in (".png", ".svg")]
        _log_files(store, run_id, drawn, "figures")
        store.log(run_id, numbers(headline))

    names = ("scenarios", "placements", "seeds", "validation_sets", "figures")
    params = texts({name: stage.raw_params[name] for name in names})
    return Item(stage, "report", hash_of({"stage": fingerprint(stage), "headline": headline}), params, log)


def _log_files(store: Store, run_id: str, paths: Iterable[Path], folder: str | None = None) -> None:
    for path in paths:
        store.client.log_artifact(run_id, str(path), folder)
