"""Environment and fixtures of all tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable

import pytest

from tests.support import ROOT, Project, make_tiny

# Before torch is imported, and for every process that a test starts. Idle OpenMP threads that spin slow a busy machine
# down, and the tests run side by side: one thread each, also where they do not, so that the bits are the same.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DVC_NO_ANALYTICS", "1")
# Processes import this checkout, not the one that is installed.
_PATHS = (str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", ""))
os.environ["PYTHONPATH"] = os.pathsep.join(path for path in _PATHS if path)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Side by side are files, not tests: those of a file share fixtures, and some go on where the one before ended.

    A file whose tests stand alone and take long has `pytestmark = pytest.mark.side_by_side`; the mark `xdist_group`
    joins tests of several files.
    """
    for item in items:
        if item.get_closest_marker("xdist_group") is None and item.get_closest_marker("side_by_side") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.relative_to(ROOT).as_posix()))


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
