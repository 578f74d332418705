"""Two people and a remote of DVC: what one has made, the other pulls, and nothing is trained again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support import Project

pytestmark = pytest.mark.pipeline


def test_a_clone_that_pulls_trains_nothing_and_has_every_run_in_mlflow(project: Project, tmp_path: Path) -> None:
    project.repro()  # other tests may have left other settings
    if project.run("git", "status", "--porcelain").stdout:
        project.commit()
    remote = ("dvc", "remote", "add", "--local", "--default", "shared", str(tmp_path / "remote"))
    project.run(*remote)
    try:
        project.run("dvc", "push")
    finally:
        project.run("dvc", "remote", "remove", "--local", "shared")
    project.run("git", "clone", "--quiet", ".", str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    clone.run(*remote)
    clone.run("dvc", "pull")
    done = clone.run(sys.executable, "-m", "study.commands.repro", TURNOVER_TRACKING="on")
    assert "Running stage" not in done.stdout
    # An item and a seed each of four trainings, the validation set, the findings, the report.
    assert "MLflow: 11 runs present, 11 added" in done.stdout
    assert clone.run("git", "status", "--porcelain").stdout == ""
