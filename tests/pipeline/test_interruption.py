"""Trainings whose DVC is killed, or that are asked to end, save, end, and go on later to the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support import Project
from turnover.training.checkpoints import read

pytestmark = pytest.mark.pipeline

EPOCHS = 120


def checkpoints(project: Project) -> list[Path]:
    return sorted((project.root / ".checkpoints").glob("*.pt"))


def epochs_done(project: Project) -> list[int]:
    """Epochs that each training in progress has saved."""
    done = []
    for path in checkpoints(project):
        with suppress(FileNotFoundError):  # finished meanwhile
            done.append(len(read(path)["history"]))
    return done


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def stage_processes(project: Project) -> set[int]:
    """Process ids of the stage and of its trainings (not of shells) that run in the project."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it may end meanwhile
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"stages.train" in words and os.readlink(process / "cwd") == str(project.root):
                found.add(int(process.name))
    return found


def start(project: Project, *command: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    # DVC runs stages by this shell. Where it is dash, it stays between DVC and the stage.
    env = {**os.environ, "PATH": path, "SHELL": "/bin/sh", "TURNOVER_TRACKING": "off", "DVC_NO_ANALYTICS": "1"}
    return subprocess.Popen(command, cwd=project.root, env=env, stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a process that its parent is gone")
def test_killed_dvc_and_sigterm_leave_no_orphan_and_lose_nothing(make_project: Callable[[], Project]) -> None:
    project = make_project()

    def two_seeds(values: dict[str, dict[str, object]]) -> None:
        values["training"].update(epochs=EPOCHS, clip_norm=1.0)
        values["seeds"].update(head=[0, 1])

    project.params(two_seeds)
    project.run("dvc", "repro", "corrupt@mixed")
    train = ("dvc", "repro", "--single-item", "train@mixed-head")

    for _ in range(3):  # while the stage still imports
        dvc = start(project, *train)
        wait_for(lambda: bool(stage_processes(project)))
        dvc.kill()
        dvc.wait()
        wait_for(lambda: not stage_processes(project), 10.0)
    assert not checkpoints(project)

    dvc = start(project, *train)
    wait_for(lambda: len(epochs_done(project)) == 2 and min(epochs_done(project)) > 0)
    processes = stage_processes(project)
    assert len(processes) >= 3  # the stage, and a training for each seed
    dvc.kill()
    dvc.wait()
    wait_for(lambda: not stage_processes(project), 10.0)
    first = epochs_done(project)
    assert len(first) == 2
    assert all(0 < done < EPOCHS for done in first)

    stage = start(project, sys.executable, "-m", "stages.train", "--scenario", "mixed", "--placement", "head")
    wait_for(lambda: all(now > then for now, then in zip(epochs_done(project), first, strict=True)))
    stage.send_signal(signal.SIGTERM)
    said = stage.communicate(timeout=60)[1]
    assert stage.returncode == 128 + signal.SIGTERM
    assert "error: stage train: training was stopped in epoch" in said
    assert "run it again to go on from there" in said
    assert "Traceback" not in said
    assert not stage_processes(project)
    assert all(then < now < EPOCHS for now, then in zip(epochs_done(project), first, strict=True))
    assert not (project.root / "runs/mixed/head").exists()

    project.run(*train, TURNOVER_TRACKING="off")
    assert not checkpoints(project)
    resumed = (project.root / "dvc.lock").read_bytes()
    store = project.root / ".checkpoints" / "train"
    for member in store.iterdir():
        member.rename(store.parent / f"put-away-{member.name}")
    project.run(*train, "--force", TURNOVER_TRACKING="off")
    assert (project.root / "dvc.lock").read_bytes() == resumed
