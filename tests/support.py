"""What tests share: what must not be skipped where it is required, and a tiny copy of the whole project."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def required(what: str) -> bool:
    """Whether a missing `what` (browser, network) is a failure here and not a reason to skip: so in CI."""
    return what in os.environ.get("TURNOVER_REQUIRE", "").split(",")


@dataclass(frozen=True)
class Project:
    """A copy of the project with tiny settings, where DVC and MLflow run for real."""

    root: Path

    def run(self, *command: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the project, as its user would in the activated environment.

        Python imports the project's own copy of the code. Nothing is tracked unless `env` has TURNOVER_TRACKING="on":
        MLflow takes seconds to import.
        """
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "DVC_", "PYTHON"))}
        defaults = {
            "PYTHONPATH": str(self.root / "src"),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DVC_NO_ANALYTICS": "1",
            "TURNOVER_TRACKING": "off",
        }
        done = subprocess.run(
            command,
            cwd=self.root,
            env={**clean, **defaults, "PATH": path, **env},
            capture_output=True,
            text=True,
            check=False,
        )
        if check:
            assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done

    def backfill(self, **env: str) -> str:
        """The last step of `make repro`."""
        return self.run(sys.executable, "-m", "study.commands.backfill", **{"TURNOVER_TRACKING": "on", **env}).stdout

    def repro(self, *targets: str, **env: str) -> set[str]:
        """`dvc repro`; returns the stages that ran."""
        done = self.run("dvc", "repro", *targets, **env)
        prefix = "Running stage '"
        lines = [line for line in done.stdout.splitlines() if line.startswith(prefix)]
        return {line.removeprefix(prefix).split("'")[0] for line in lines}

    def params(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Edit params.yaml."""
        from ruamel.yaml import YAML

        yaml = YAML()
        path = self.root / "params.yaml"
        values = yaml.load(path)
        change(values)
        yaml.dump(values, path)

    def commit(self) -> None:
        self.run("git", "add", "--all")
        self.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "--message", "x")


def copy_project(folder: Path) -> Project:
    """A tiny copy of the project in an empty folder, or a new one: its own git and DVC repository."""
    project = Project(folder)
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    keep = ("src/", "stages/", "reports/variants/", ".dvc/", "dvc.yaml", "params.yaml", ".gitignore", ".dvcignore")
    keep += ("pyproject.toml",)
    for name in listed.stdout.splitlines():
        if name.startswith(keep) and (ROOT / name).is_file():
            (project.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, project.root / name)
    project.params(make_tiny)
    project.run("git", "init", "--quiet")
    project.commit()
    return project


def make_tiny(values: dict[str, Any]) -> None:
    """Put the settings of configs/tiny.yaml over those of params.yaml, as `make full` does with configs/full.yaml."""
    from study.commands.full import overlay
    from study.context.declaration import read_yaml

    overlay(values, read_yaml(ROOT / "configs/tiny.yaml"))
