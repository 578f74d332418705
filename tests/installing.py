"""An environment of its own for a test, with packages from uv's cache, or from the network where that is required."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT, required


def environment_with(folder: Path, *wanted: str | Path) -> Path:
    """The Python of a new environment in `folder` with what `uv pip install` is given, in the versions of the lock.

    Skips the test where that cannot be had.
    """
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if uv is None:
        if required("network"):
            pytest.fail("uv is not installed")
        pytest.skip("uv is not installed")
    constraints = folder / "constraints.txt"
    constraints.write_text(_pins())
    here = folder / "environment/bin/python"

    def install(*options: str) -> list[str]:
        command = [uv, "pip", "install", "--quiet", "--no-config", *options, "--python", str(here)]
        return [*command, "--constraint", str(constraints), *map(str, wanted)]

    create = [uv, "venv", "--quiet", "--no-config", "--python", sys.executable, str(folder / "environment")]
    subprocess.run(create, cwd=folder, check=True)
    done = subprocess.run(install("--offline"), cwd=folder, capture_output=True, text=True)
    if done.returncode and required("network"):
        done = subprocess.run(install(), cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    if done.returncode:
        pytest.skip("uv's cache does not hold what is needed, and without network nothing else can be installed")
    return here


def _pins() -> str:
    """The versions of the lock, as constraints: so uv's cache has the very files."""
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    lines = [line.rstrip(" \\") for line in lock.splitlines() if re.match(r"[a-z0-9]", line)]
    return "\n".join(re.sub(r"\[.*?\]", "", line) for line in lines)  # a constraint may name no extras
