"""All that belongs into MLflow: a run each for the trainings' items and seeds, the validation sets, the findings, and
the report."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from study.context.fingerprint import content_hash, fingerprint, hash_of
from study.context.params import Params
from study.context.runs import CONTROL, Run, runs_of
from study.context.stage import Stage
from study.report.opening import markdown
from study.tracking.content import (
    Results,
    item_name,
    log_dataset,
    log_item,
    log_model,
    log_rows,
    log_training,
    read_json,
    texts,
    training_params,
    values_of,
)
from study.tracking.metrics import claim_metrics, estimate_metrics, means, numbers, validation_metrics
from study.tracking.notes import item_note, training_note, validation_note
from study.tracking.registry import alias_of, register
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
    note: str  # in Markdown
    log: Log  # everything but params, tags, note and parts
    parts: tuple[Part, ...] = ()
    parent: str | None = None  # key of the run above it


def train_items(root: Path, params: Params, scenario: str, placement: str, *, estimates: bool) -> Iterator[Item]:
    """The run of an item of stage `train`, and those of its seeds, with their estimates where they are up to date."""
    stage = Stage(root, "train", {"scenario": scenario, "placement": placement})
    results = {run: Results.read(root / run.folder) for run in runs_of(params, scenario, placement)}
    # What made a network stands beside it, see docs/decisions.md.
    keys = read_json(root / f"made-by/{item_name(stage)}.json")
    parent = fingerprint(stage)

    # On the runs of the trainings themselves, so that both are one row of MLflow's table.
    estimated = estimates and placement != CONTROL
    found = {run: read_json(root / run.scores / "metrics.json") for run in results} if estimated else {}

    def log_parent(store: Store, run_id: str) -> None:
        log_item(store, run_id, {run.name: of for run, of in results.items()})

    def log_means(store: Store, run_id: str) -> None:
        store.log(run_id, values_of(means([estimate_metrics(of) for of in found.values()])))

    def item_of(run: Run) -> Item:
        def log(store: Store, run_id: str) -> None:
            log_dataset(store, run_id, stage)
            log_training(store, run_id, results[run])

        def log_estimates(store: Store, run_id: str) -> None:
            store.log(run_id, values_of(estimate_metrics(found[run])))
            lines = [f"{name},{value}\n" for name, value in numbers(found[run]).items()]
            store.client.log_text(run_id, "".join(["metric,value\n", *lines]), "estimates.csv")

        parts = [
            Part("turnover.model", run.name, lambda store, run_id: log_model(store, run_id, root, run)),
            Part("turnover.registered", alias_of(run), lambda store, run_id: register(store, run_id, stage, run)),
        ]
        if run in found:
            parts.append(Part("turnover.estimates", hash_of(found[run]), log_estimates))
        note = training_note(stage, run)
        return Item(stage, run.name, keys[str(run.seed)], training_params(stage, run), note, log, tuple(parts), parent)

    of_all = [Part("turnover.estimates", hash_of(list(found.values())), log_means)] if found else []
    note = item_note(stage, [run.seed for run in results])
    yield Item(stage, item_name(stage), parent, training_params(stage), note, log_parent, tuple(of_all))
    yield from map(item_of, results)


def validation_item(root: Path, validation_set: str, *, figure: bool) -> Item:
    """The run of a validation set, with its figure where that is up to date."""
    stage = Stage(root, "validate", {"validation_set": validation_set})
    folder = root / f"reports/validation/{validation_set}"
    drawn = sorted((root / "reports/figures").glob(f"validation-{validation_set}.*")) if figure else []
    key = hash_of({"stage": fingerprint(stage), "figure": {path.name: content_hash(path) for path in drawn}})

    def log(store: Store, run_id: str) -> None:
        rows = _read_csv(folder / "table.csv")
        log_rows(store, run_id, rows, "table.json")
        _log_files(store, run_id, [*folder.iterdir(), *(path for path in drawn if path.suffix != ".csv")])
        store.log(run_id, values_of(validation_metrics(rows)))

    raw = stage.raw_params
    settings = {"validation": raw["validation"][validation_set], "retrain": raw["retrain"]}
    params = texts({**settings, "comparison": raw["comparison"]})
    return Item(stage, f"validation {validation_set}", key, params, validation_note(settings), log)


def findings_item(root: Path) -> Item:
    """The run of the findings: the claims and their verdicts, and all effects."""
    stage = Stage(root, "findings", {})
    metrics = root / "reports/metrics"
    found = read_json(metrics / "findings.json")
    tables = sorted((metrics / "findings").glob("*.csv"))
    made = {"stage": fingerprint(stage), "tables": [content_hash(path) for path in tables], "findings": found}

    def log(store: Store, run_id: str) -> None:
        if found["claims"]:
            shown = ("key", "title", "verdict", "mean", "low", "high", "unit", "p_holm")
            log_rows(store, run_id, [{name: of[name] for name in shown} for of in found["claims"]], "claims.json")
        _log_files(store, run_id, [metrics / "findings.json"])
        _log_files(store, run_id, tables, "tables")
        store.log(run_id, values_of(claim_metrics(found["claims"])))

    names = ("scenarios", "placements", "seeds", "removal")
    params = texts({name: stage.raw_params[name] for name in names})
    note = markdown(found, read_json(metrics / "summary.json"))
    return Item(stage, "findings", hash_of(made), params, note, log)


def report_item(root: Path) -> Item:
    """The run of the report: what it says in numbers, its pages and its figures."""
    stage = Stage(root, "report", {})
    headline = read_json(root / "reports/headline.json")

    def log(store: Store, run_id: str) -> None:
        pages = [root / "reports" / name for name in ("index.html", "report.md", "explorer.html")]
        _log_files(store, run_id, [page for page in pages if page.exists()])
        drawn = [path for path in (root / "reports/figures").iterdir() if path.suffix in (".png", ".svg")]
        _log_files(store, run_id, drawn, "figures")
        store.log(run_id, values_of(numbers(headline)))

    names = ("scenarios", "placements", "seeds", "validation_sets", "figures")
    params = texts({name: stage.raw_params[name] for name in names})
    note = "The headline numbers of the study. `index.html` is the report, `figures` has every figure of it. "
    note += "`explorer.html` shows single examples."
    return Item(stage, "report", hash_of({"stage": fingerprint(stage), "headline": headline}), params, note, log)


def _read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _log_files(store: Store, run_id: str, paths: Iterable[Path], folder: str | None = None) -> None:
    for path in paths:
        store.client.log_artifact(run_id, str(path), folder)
