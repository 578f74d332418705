"""Environment and fixtures of all tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable

import pytest

from tests.support import ROOT, Project, make_tiny

# Before torch is imported: idle OpenMP threads that spin slow a busy machine down.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture(scope="session")
def make_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Project]:
    """Makes fresh tiny copies of the project, each its own git and DVC repository."""

    def make() -> Project:
        project = Project(tmp_path_factory.mktemp("project"))
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        keep = ("src/", "stages/", ".dvc/", "dvc.yaml", "params.yaml", ".gitignore", ".dvcignore", "pyproject.toml")
        for name in listed.stdout.splitlines():
            if name.startswith(keep) and (ROOT / name).is_file():
                (project.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, project.root / name)
        project.params(make_tiny)
        project.run("git", "init", "--quiet")
        project.commit()
        return project

    return make
