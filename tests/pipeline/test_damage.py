"""`make repro` after damage that DVC does not see: the same bytes again, and nothing is computed for it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from study.context.lock import other_outs
from tests.support import Project

pytestmark = pytest.mark.pipeline

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "flipped": lambda whole: (
        whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :]
    ),
    "cut off": lambda whole: whole[: len(whole) // 2],
    "emptied": lambda whole: b"",
}


def damage(path: Path, how: str) -> None:
    before = path.stat()
    path.write_bytes(DAMAGE[how](path.read_bytes()))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_outs_damaged_with_their_time_kept_come_back(make_project: Callable[[], Project]) -> None:
    project = make_project()
    command = (sys.executable, "-m", "study.commands.repro", "corrupt@mixed", "validation_data@validation")
    project.run(*command)
    lock = (project.root / "dvc.lock").read_bytes()
    files = [
        path for path in sorted((project.root / "data").rglob("*")) if path.suffix in (".npy", ".parquet", ".json")
    ]
    assert len(files) >= 8
    for number, path in enumerate(files):
        damage(path, list(DAMAGE)[number % len(DAMAGE)])
    # Whole again, and a file of DVC's that a killed one left half-written hinders nobody.
    (project.root / ".dvc" / "tmp" / "rwlock").write_text('{"write": {"/')
    done = project.run(*command)
    assert other_outs(project.root) == {}
    assert done.stderr.count("was not what dvc.lock says; it is now, without a run") == 3
    assert "Running stage" not in done.stdout
    assert (project.root / "dvc.lock").read_bytes() == lock

    damage(project.root / "data/raw/train_images.npy", "flipped")
    done = project.run("dvc", "repro", "--force", "--single-item", "corrupt@mixed", check=False)
    assert done.returncode
    assert "error: data/raw is not what dvc.lock says it is: run `make repro`, which brings it back" in done.stderr
