"""Restore in MLflow what it does not have: `python -m study.commands.backfill`, the last step of `make repro`.

A stage that DVC takes from its cache never runs, and a training goes on without a server: their runs are made here,
from the outs. Networks are logged as models and estimates added here as well, all in one process. Whoever deletes
`mlflow.db` and `mlruns` gets every run back. Doing it once more adds none.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from study.commands.running import status_of
from study.context.params import Params
from study.context.runs import load_params
from study.tracking.content import run_tags
from study.tracking.items import Item, findings_item, report_item, train_items, validation_item
from study.tracking.notes import NOTE
from study.tracking.place import TrackingError, note_complete, place_of, runs_if_complete
from study.tracking.store import PARENT, Store, reason, silence
from study.tracking.waiting import in_time
from turnover.errors import UserError


def backfill(root: Path, on_progress: Callable[[], None] = lambda: None) -> str:
    """Make what is missing. Returns what was done, in words; what DVC does not say is up to date is left out.

    Args:
        root: the repository.
        on_progress: called after every answer of MLflow that stands for some work.
    """
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
    on_progress()
    store.end_orphans()
    known = store.finished()
    done: Counter[str] = Counter()
    for item in _items(root, params, changed):
        on_progress()
        done[_fill(store, known, item)] += 1
    said = f"MLflow: {done.total()} runs present, {done['added']} added"
    if done["completed"]:
        said += f", {done['completed']} completed"
    if changed:
        return f"{said}; not recorded, run `dvc repro` first: {', '.join(f'{k} ({v})' for k, v in changed.items())}"
    note_complete(place, root, done.total())
    return said


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
    return {name: _what(changes[0]) for name, changes in json.loads(done.stdout).items()}


def _what(change: str | dict[str, dict[str, object]]) -> str:
    """Such as ``code/training.py, params.yaml`` for ``{"changed deps": {...}}``; or ``changed command`` as it is."""
    return change if isinstance(change, str) else ", ".join(path for paths in change.values() for path in paths)


def _items(root: Path, params: Params, changed: Collection[str]) -> Iterator[Item]:
    """What belongs into MLflow and is up to date, in the order of the pipeline."""
    for scenario in params.scenarios:
        estimates = f"estimate@{scenario}" not in changed
        for placement in params.placements:
            if f"train@{scenario}-{placement}" not in changed:
                yield from train_items(root, params, scenario, placement, estimates=estimates)
    for name in params.validation_sets:
        if f"validate@{name}" not in changed:
            yield validation_item(root, name, figure="figures" not in changed)
    if not {"findings", "summarize"}.intersection(changed):
        yield findings_item(root)
    if not {"summarize", "figures", "report"}.intersection(changed):
        yield report_item(root)


def _fill(store: Store, known: dict[str, tuple[str, dict[str, str]]], item: Item) -> str:
    """Make the run of an item if it is missing, or what is missing of it. Returns what was done."""
    parent = None if item.parent is None else known[item.parent][0]
    if item.key not in known:
        known[item.key] = _make(store, item, parent), {}
        return "added"
    run_id, tags = known[item.key]
    if parent is not None and tags.get(PARENT) != parent:
        store.tag(run_id, {PARENT: parent})
    return "completed" if _complete(store, item, run_id, tags) else "present"


def _make(store: Store, item: Item, parent: str | None) -> str:
    tags = {**run_tags(item.stage, "backfill"), NOTE: item.note}
    run_id = store.start(item.name, tags, item.params, parent)
    try:
        item.log(store, run_id)
        _complete(store, item, run_id, {})
    except BaseException:
        store.client.set_terminated(run_id, "FAILED")
        raise
    store.finish(run_id, item.key)
    return run_id


def _complete(store: Store, item: Item, run_id: str, tags: Mapping[str, str]) -> bool:
    """Log the parts that the run of an item lacks. Returns whether there were any."""
    lacking = [part for part in item.parts if tags.get(part.tag) != part.value]
    for part in lacking:
        part.log(store, run_id)
        store.tag(run_id, {part.tag: part.value})
    return bool(lacking)


def _fill_and_say(root: Path) -> None:
    try:
        # A database is here: nobody need wait for it, and Ctrl-C reaches who writes.
        print(backfill(root) if place_of(root).database is not None else in_time(partial(backfill, root)))
    except UserError:
        raise
    except Exception as error:  # the pipeline's result stands without MLflow
        print(
            f"warning: MLflow was not brought up to date ({reason(error)}); the results are not affected, "
            "and the next `make repro` tries again",
            file=sys.stderr,
        )


def main(arguments: list[str] | None = None) -> int:
    argparse.ArgumentParser(prog="python -m study.commands.backfill", description=__doc__).parse_args(arguments)
    return status_of(_fill_and_say)


if __name__ == "__main__":
    sys.exit(main())
