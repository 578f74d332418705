"""What make hands on to what it runs."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from tests.support import ROOT


def test_python_s_own_variables_do_not_reach_what_make_runs(tmp_path: Path) -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    settings = [line for line in text.splitlines() if re.match(r"(un)?export PYTHON", line)]
    (tmp_path / "Makefile").write_text("\n".join([*settings, "x:", "\t@env"]) + "\n")
    taken = ("PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH", "PYTHONWARNINGS")
    env = {**os.environ, **dict.fromkeys(taken, "1"), "PYTHONUTF8": "0"}
    done = subprocess.run(["make", "x"], cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    found = dict(line.partition("=")[::2] for line in done.stdout.splitlines() if "=" in line)
    assert not set(taken) & set(found)
    assert found["PYTHONUTF8"] == "1"


def test_a_python_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text(encoding="utf-8"))
    for name in ("requirements.lock", "requirements-uv.lock", "pyproject.toml"):
        (tmp_path / name).touch()
    done = subprocess.run(["make", "setup", "PYTHON=/nope"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode
    assert "error: /nope not found: run make PYTHON=/path/to/python3.11" in done.stdout
    assert not (tmp_path / ".venv").exists()
