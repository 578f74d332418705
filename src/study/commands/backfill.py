"""Restore in MLflow what it does not have: `python -m study.commands.backfill`, the last step of `make repro`.

A stage that DVC takes from its cache never runs, and a training goes on without a server: their runs are made here,
from the outs. Networks are logged as models here as well, all in one process. Whoever deletes `mlflow.db` and `mlruns`
gets every run back. Doing it once more adds none.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from study.context.params import Params
from study.context.rules import CONTROL
from study.context.runs import load_params
from study.tracking.complete import forget_complete, note_complete, runs_if_complete
from study.tracking.content import ESTIMATES, estimates_of, log_estimates_of, run_tags
from study.tracking.items import Item, changed_stages, report_item, train_items, validation_item
from study.tracking.model import MODEL, log_model
from study.tracking.place import place_of
from study.tracking.store import PARENT, Known, Store, reason, silence
from turnover.errors import UserError


def backfill(root: Path) -> str:
    """Make what is missing. Returns what was done, in words; what DVC does not say is up to date is left out."""
    params = load_params(root)
    place = place_of(root)
    complete = runs_if_complete(place, root)
    if complete is not None:
        return f"MLflow: {complete} runs present, 0 added"
    silence()
    with ThreadPoolExecutor(1) as other:  # both take seconds to start
        asked = other.submit(changed_stages, root)
        store = Store(root)
        changed = asked.result()
    forget_complete(place)
    filling = _Filling(store, root, changed)
    for item in _items(root, params, changed):
        filling.add(item)
    done = f"MLflow: {len(filling.ids)} runs present, {filling.added} added"
    if filling.completed:
        done += f", {filling.completed} completed"
    if changed:
        return f"{done}; not recorded, run `dvc repro` first: {', '.join(f'{k} ({v})' for k, v in changed.items())}"
    note_complete(place, root, filling.ids)
    return done


def _items(root: Path, params: Params, changed: Mapping[str, str]) -> Iterator[Item]:
    """What belongs into MLflow and is up to date, in the order of the pipeline."""
    for scenario in params.scenarios:
        for placement in params.placements:
            if f"train@{scenario}-{placement}" not in changed:
                yield from train_items(root, params, scenario, placement)
    for name in params.validation_sets:
        if f"validate@{name}" not in changed:
            yield validation_item(root, name, figure="figures" not in changed)
    if not changed.keys() & {"summarize", "figures", "report"}:
        yield report_item(root)


class _Filling:
    """Runs that are there, and those made: what `backfill` counts."""

    def __init__(self, store: Store, root: Path, changed: Mapping[str, str]) -> None:
        store.end_orphans()
        self.store, self.root, self.changed = store, root, changed
        self.ids: list[str] = []
        self.added = self.completed = 0
        self._known = store.finished()

    def add(self, item: Item) -> None:
        """Make the run of an item if it is missing, or what is missing of it."""
        known = self._known.get(item.key)
        parent = self._known[item.parent].run_id if item.parent is not None else None
        if known is None:
            self._known[item.key] = Known(self._make(item, parent), {})
            self.added += 1
        else:
            if parent is not None and known.tags.get(PARENT) != parent:
                self.store.log(known.run_id, (), {PARENT: parent})
            self.completed += self._complete(item, known)
        self.ids.append(self._known[item.key].run_id)

    def _make(self, item: Item, parent: str | None) -> str:
        tags = run_tags(item.stage, "backfill", item.key)
        run_id = self.store.start(item.name, tags, item.params, parent)
        try:
            item.log(self.store, run_id)
            self._complete(item, Known(run_id, {}))
        except BaseException:
            self.store.client.set_terminated(run_id, "FAILED")
            raise
        self.store.finish(run_id, item.key)
        return run_id

    def _complete(self, item: Item, known: Known) -> bool:
        """Log model and estimates of a training where its run lacks them. Returns whether it did."""
        run = item.run
        if run is None:
            return False
        model = MODEL not in known.tags
        if model:
            log_model(self.store, known.run_id, self.root, run)
        estimates = run.placement != CONTROL and f"estimate@{run.scenario}" not in self.changed
        estimates = estimates and known.tags.get(ESTIMATES) != estimates_of(self.root, run)[1]
        if estimates:
            log_estimates_of(self.store, known.run_id, self.root, run)
        return model or estimates


def main() -> int:
    """Entry point. The pipeline's result stands without MLflow, so an MLflow that fails is a warning."""
    argparse.ArgumentParser(prog="python -m study.commands.backfill", description=__doc__).parse_args()
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
