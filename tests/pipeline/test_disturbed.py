"""What the campaigns go by: a lost epoch, a training made twice, a file that differs are seen."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.pipeline.corruptions import HOW
from tests.pipeline.disturbed import EPOCHS, Progress
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
