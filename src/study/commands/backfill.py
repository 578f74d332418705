"""Restore in MLflow what it does not have: `python -m study.commands.backfill`, the last step of `make repro`.

A stage that DVC takes from its cache never runs, and a training goes on without a server: their runs are made here,
from the outs. Whoever deletes `mlflow.db` and `mlruns` gets every run back. Doing it once more adds none.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.context.fingerprint import fingerprint
from study.context.params import check_params
from study.context.runs import CONTROL, Run, control_runs, masked_runs
from study.context.stage import Stage
from study.tracking.content import log_dataset, log_training, numbers, run_tags, texts, training_params
from study.tracking.store import Store, reason, silence
from turnover.errors import UserError


@dataclass(frozen=True)
class Item:
    """One stage item that has a run of its own in MLflow."""

    stage: Stage
    name: str
    params: dict[str, str]
    log: Callable[[Store, str], None]  # logs everything but params and tags to the run with that id

    def missing(self) -> str:
        """The first declared dependency or output that is not there, or nothing."""
        paths = (*self.stage.declared.deps, *self.stage.declared.outs)
        return next((path for path in paths if not (self.stage.root / path).exists()), "")


def items(root: Path) -> Iterator[Item]:
    """Everything that belongs into MLflow, in the order of the pipeline."""
    params = check_params(Stage(root, "fetch", {}).raw_params)
    for run in (*masked_runs(params), *control_runs(params)):
        yield _training(root, run)
    for run in masked_runs(params):
        yield _estimate(root, run)
    yield _report(root)


def backfill(root: Path) -> str:
    """Make the missing runs. Returns what was done, in words; items whose outs are not up to date are left out."""
    wanted, problems = {}, []
    for item in items(root):
        missing = item.missing()
        if missing:
            problems.append(f"{item.stage.name} ({missing} is missing)")
            continue
        key = fingerprint(item.stage)
        if not _made_by(item, key):
            problems.append(f"{item.stage.name} (made by other code, data or settings)")
            continue
        wanted[key] = item
    store = Store(root)
    present = store.finished()
    added = 0
    for key, item in wanted.items():
        if key not in present:
            _restore(store, item, key)
            added += 1
    done = f"MLflow: {len(wanted)} runs present, {added} added"
    if problems:
        done += f"; not recorded, run `dvc repro` first: {', '.join(problems)}"
    return done


def _restore(store: Store, item: Item, key: str) -> None:
    run_id = store.start(item.name, run_tags(item.stage, key, "backfill"), item.params)
    try:
        item.log(store, run_id)
    except BaseException:
        store.client.set_terminated(run_id, "FAILED")
        raise
    store.finish(run_id, key)


def _made_by(item: Item, key: str) -> bool:
    """Whether the outs are those of the current code, data and settings; only networks say what made them."""
    about = next((item.stage.root / out / "model.json" for out in item.stage.declared.outs), None)
    return about is None or not about.exists() or json.loads(about.read_text(encoding="utf-8"))["fingerprint"] == key


def _training(root: Path, run: Run) -> Item:
    item = {"scenario": run.scenario, "seed": str(run.seed)}
    if run.placement == CONTROL:
        stage = Stage(root, "control", item)
    else:
        stage = Stage(root, "train", {**item, "placement": run.placement})

    def log(store: Store, run_id: str) -> None:
        log_dataset(store, run_id, stage, run)
        log_training(store, run_id, root, run)

    return Item(stage, run.name, training_params(stage, run), log)


def _estimate(root: Path, run: Run) -> Item:
    made = {"scenario": run.scenario, "placement": run.placement, "seed": str(run.seed)}
    stage = Stage(root, "estimate", made)

    def log(store: Store, run_id: str) -> None:
        log_dataset(store, run_id, stage, run)
        metrics = root / f"reports/metrics/estimate/{run.name}.json"
        store.log(run_id, numbers(_json(metrics), "estimate/"))
        # Also as a file: a run without any would look as if its files had been deleted, see `Store.finished`.
        store.client.log_artifact(run_id, str(metrics))

    params = texts({**made, "estimate": stage.raw_params["estimate"]})
    return Item(stage, f"estimate {run.name}", params, log)


def _report(root: Path) -> Item:
    """Figures and report are one run: the fingerprint of the report covers the figures."""
    stage = Stage(root, "report", {})

    def log(store: Store, run_id: str) -> None:
        for figure in sorted((root / "reports/figures").iterdir()):
            if figure.suffix in (".png", ".svg"):
                store.client.log_artifact(run_id, str(figure), "figures")
        for page in ("index.html", "report.md"):
            store.client.log_artifact(run_id, str(root / "reports" / page))
        store.log(run_id, numbers(_json(root / "reports/metrics/summary.json"), "summary/"))
        findings: dict[str, Any] = _json(root / "reports/metrics/findings.json")
        claims = {of["key"]: {"effect": of["main"]["effect"]["mean"], "p": of["p_holm"]} for of in findings["claims"]}
        store.log(run_id, numbers(claims, "findings/"))

    keys = ("scenarios", "placements", "seeds", "figures")
    return Item(stage, "report", texts({key: stage.raw_params[key] for key in keys}), log)


def _json(path: Path) -> dict[str, object]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def main() -> int:
    """Entry point. The pipeline's result stands without MLflow, so an MLflow that fails is a warning."""
    argparse.ArgumentParser(prog="python -m study.commands.backfill", description=__doc__).parse_args()
    silence()
    try:
        print(backfill(Path.cwd()))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        print(
            f"warning: MLflow was not brought up to date ({reason(error)}); the results are not affected, "
            "and the next `make repro` tries again",
            file=sys.stderr,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
