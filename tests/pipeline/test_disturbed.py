"""What the campaigns go by: a lost epoch, a training made twice, a file that differs are seen."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from study.context.lock import md5_of
from tests.pipeline.corruptions import HOW, MEMBERS, NOTES, OUTS, Round, rounds
from tests.pipeline.disturbed import EPOCHS, Disturbed, Progress
from tests.pipeline.kills import differing, nth
from turnover.training.checkpoints import Checkpoint


def save(path: Path, epochs: int) -> None:
    Checkpoint(path, {}).save({"history": [(number, 0.0, 0.0, {}) for number in range(epochs)]})


def test_lost_epochs_and_trainings_made_twice_are_seen(tmp_path: Path) -> None:
    progress, path = Progress(tmp_path), tmp_path / ".checkpoints/mixed-head-0-abc.pt"
    for epochs in (0, 1, 2, 2, EPOCHS - 1):
        save(path, epochs)
        progress.look()
    assert progress.faults == [] and progress.under_way() == 1
    save(path, 1)
    progress.look()
    assert progress.faults == [f"{path.name}: {EPOCHS - 1} epochs were done, and it went on from 1"]
    finished = tmp_path / ".checkpoints/train/mixed-head-0-abc"
    finished.mkdir(parents=True)
    progress.look()
    path.unlink()
    progress.look()
    assert len(progress.faults) == 1 and progress.under_way() == 0
    os.utime(finished, (0, 0))
    save(path, EPOCHS)
    progress.look()
    assert progress.faults[1:] == [f"{path.name}: it was finished, and is trained again"]


def test_other_files_are_named() -> None:
    assert differing({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"}) == ["b", "c"]


def test_a_moment_comes_at_the_nth_change() -> None:
    seen = iter([None, 7, 7, None, 7, 8])
    moment = nth(3, lambda: next(seen))
    assert [moment() for _ in range(6)] == [False, False, False, False, False, True]


@pytest.mark.parametrize("how", HOW)
def test_damage_is_damage(how: str) -> None:
    whole = bytes(range(100))
    assert HOW[how](whole, random.Random(0)) != whole


class Stub:
    """A project of a few files, in which the command brings everything back, or nothing."""

    def __init__(self, root: Path, heals: bool, said: str) -> None:
        self.root, self._heals, self._said = root, heals, said
        for number, place in enumerate([*OUTS.values(), *NOTES.values(), *MEMBERS]):
            path = root / place.replace("**", "a/b").replace("*.*", "x.csv").replace("*", "x")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"content {number}\n" * 5)
        (root / "runs/mixed/head/0").mkdir(parents=True)
        (root / "scores/mixed").mkdir()
        (root / "ground_truth/validation.npz").write_text("truth")
        for path in [path for path in (root / "runs").rglob("*") if path.is_file()]:
            self.cached(path)
        (root / "dvc.lock").write_text("stages: {fetch: {cmd: x}}\n")
        with closing(sqlite3.connect(root / "mlflow.db")) as database:
            for table in ("runs", "metrics", "params", "tags"):
                database.execute(f"create table {table} (x text)")
            database.commit()
        self._copy = root.with_name(f"{root.name}-copy")
        shutil.copytree(root, self._copy)

    def cached(self, path: Path) -> None:
        md5 = md5_of(path)
        (self.root / f".dvc/cache/files/md5/{md5[:2]}").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, self.root / f".dvc/cache/files/md5/{md5[:2]}/{md5[2:]}")

    def content(self, timed: bool) -> dict[str, str]:
        files = [path for path in self.root.rglob("*") if path.is_file() and path.suffix != ".db"]
        named = {path.relative_to(self.root).as_posix(): md5_of(path) for path in files}
        return {name: md5 for name, md5 in named.items() if not name.startswith((".", "mlflow", "dvc"))}

    def finish(self) -> str:
        if self._heals:
            shutil.copytree(self._copy, self.root, dirs_exist_ok=True)
        return self._said


def all_rounds(stub: Stub) -> list[tuple[str, str]]:
    return [outcome for _, outcomes in rounds(cast(Disturbed, stub), 0, []) for outcome in outcomes]


def test_what_is_brought_back_is_no_fault_and_what_is_not_is_one(tmp_path: Path) -> None:
    found = all_rounds(Stub(tmp_path / "healed", True, "nothing to do"))
    assert len(found) == 6 * (len(OUTS) + len(NOTES) + len(MEMBERS) + 3) >= 100
    assert {outcome for _, outcome in found} == {"brought back", "harmless"}
    broken = Round(cast(Disturbed, Stub(tmp_path / "broken", False, "nothing to do")), "flip", True, 0)
    broken.outs()
    assert all(outcome.startswith("FAULT") for _, outcome in broken.outcomes)


def test_a_damaged_member_that_nobody_speaks_of_is_a_fault(tmp_path: Path) -> None:
    found = all_rounds(Stub(tmp_path / "used", True, "Running stage 'x'"))
    members = [outcome for kind, outcome in found if kind == "finished member of a stage"]
    assert len(members) == 6 * len(MEMBERS) and all("it was used" in outcome for outcome in members)
