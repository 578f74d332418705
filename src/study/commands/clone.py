"""Commands in a clone of the repository: with the clone's own code, and a tracking store of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def run_in(where: Path, command: list[str], *, capture: bool = False) -> str:
    """Run a command in the clone at `where`; the developer's own runs in MLflow stay as they are.

    Args:
        where: the clone.
        command: program and arguments.
        capture: return what it prints, instead of showing it.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    env = {**os.environ, "PYTHONPATH": str(where / "src"), "MLFLOW_TRACKING_URI": f"sqlite:///{where / 'mlflow.db'}"}
    env.pop("DVC_ROOT", None)  # where tracking would look for the repository
    done = subprocess.run(
        command, cwd=where, env=env, check=True, text=True, stdout=subprocess.PIPE if capture else None
    )
    return done.stdout or ""
