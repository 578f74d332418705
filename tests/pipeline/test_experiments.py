"""Experiments of DVC that run in a folder which is deleted afterwards: their runs are kept where the user's are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import ROOT, Project

pytestmark = pytest.mark.pipeline

_STAGE = """
import sys
from pathlib import Path
from study.tracking.place import place_of
place = place_of(Path.cwd())
Path(sys.argv[1]).write_text(f"{Path.cwd()}\\n{place.database}\\n{place.artifacts}\\n")
Path("out.txt").write_text(Path("number.txt").read_text())
"""


@pytest.mark.parametrize("uri", [None, "sqlite:///mine.db"])
def test_a_temporary_experiment_is_tracked_in_the_user_s_repository(tmp_path: Path, uri: str | None) -> None:
    root, said = tmp_path / "my repository", tmp_path / "said.txt"
    root.mkdir()
    (root / "stage.py").write_text(_STAGE)
    (root / "number.txt").write_text("1")
    project = Project(root)
    project.run("git", "init", "--quiet")
    project.run("dvc", "init", "--quiet")
    command = ("dvc", "stage", "add", "--quiet", "-n", "one", "-d", "number.txt", "-O", "out.txt")
    project.run(*command, f"python stage.py {said}")
    project.commit()
    env = {"PYTHONPATH": str(ROOT / "src"), **({"MLFLOW_TRACKING_URI": uri} if uri else {})}
    project.run("dvc", "exp", "run", "--temp", **env)
    where, database, artifacts = said.read_text().splitlines()
    assert Path(where) != root, "it ran elsewhere"
    assert database == str(root / ("mine.db" if uri else "mlflow.db"))
    assert artifacts == (root / "mlruns").as_uri()
