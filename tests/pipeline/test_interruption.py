"""A training whose DVC is killed, or that is asked to end, saves, ends, and goes on later to the same bytes."""

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
import torch

from tests.support import Project

pytestmark = pytest.mark.pipeline

EPOCHS = 200


def checkpoint(project: Project) -> Path | None:
    return next((project.root / ".checkpoints").glob("*.pt"), None)


def epochs_done(project: Project) -> int:
    path = checkpoint(project)
    return len(torch.load(path, weights_only=True)["history"]) if path is not None else 0


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def stage_processes(project: Project) -> set[int]:
    """Process ids of the stages (not of shells) that run in the project."""
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
    project.params(lambda values: values["training"].update(epochs=EPOCHS, ema=0.9))
    project.run("dvc", "repro", "corrupt@mixed")
    train = ("dvc", "repro", "--single-item", "train@mixed-head-0")

    dvc = start(project, *train)
    wait_for(lambda: epochs_done(project) > 0)
    stages = stage_processes(project)
    assert stages
    dvc.kill()
    dvc.wait()
    wait_for(lambda: not stage_processes(project) & stages)
    first = epochs_done(project)
    assert 0 < first < EPOCHS

    item = ("--scenario", "mixed", "--placement", "head", "--seed", "0")
    stage = start(project, sys.executable, "-m", "stages.train", *item)
    wait_for(lambda: epochs_done(project) > first)
    stage.send_signal(signal.SIGTERM)
    said = stage.communicate(timeout=60)[1]
    assert stage.returncode == 128 + signal.SIGTERM
    assert "error: stage train: training was stopped in epoch" in said
    assert "run it again to go on from there" in said
    assert "Traceback" not in said
    assert first < epochs_done(project) < EPOCHS
    assert not (project.root / "models").exists()

    project.run(*train, TURNOVER_TRACKING="off")
    assert list((project.root / ".checkpoints").iterdir()) == []
    resumed = (project.root / "dvc.lock").read_bytes()
    project.run(*train, "--force", TURNOVER_TRACKING="off")
    assert (project.root / "dvc.lock").read_bytes() == resumed
