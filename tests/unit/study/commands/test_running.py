"""Commands end with the `make` that started them, and what they start ends with them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import ROOT

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a process so")

COMMAND = """
import os, sys
from pathlib import Path
from study.commands.running import run_in
from study.context.lifetime import end_with_make
end_with_make()
Path("command").write_text(str(os.getpid()))
run_in(Path.cwd(), "sh", "-c", "echo $$ > part; mv part program; exec sleep 60")
"""


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("killed", ["make", "command"])
def test_nothing_outlives_a_killed_make_or_command(tmp_path: Path, killed: str) -> None:
    (tmp_path / "command.py").write_text(COMMAND)
    (tmp_path / "Makefile").write_text(f"x:\n\t@{sys.executable} command.py\n")
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    make = subprocess.Popen(["make", "x"], cwd=tmp_path, env=env, stderr=subprocess.DEVNULL)
    wait_for((tmp_path / "program").exists)
    command, program = (int((tmp_path / name).read_text()) for name in ("command", "program"))
    assert runs(command) and runs(program)
    os.kill({"make": make.pid, "command": command}[killed], signal.SIGKILL)
    make.wait()
    wait_for(lambda: not runs(command) and not runs(program), 10)


def test_a_command_started_by_hand_outlives_its_shell(tmp_path: Path) -> None:
    (tmp_path / "command.py").write_text(COMMAND)
    env = {key: value for key, value in os.environ.items() if key != "MAKELEVEL"} | {"PYTHONPATH": str(ROOT / "src")}
    shell = subprocess.Popen(["sh", "-c", f"{sys.executable} command.py; exit $?"], cwd=tmp_path, env=env)
    wait_for((tmp_path / "program").exists)
    shell.kill()
    shell.wait()
    time.sleep(0.5)
    command, program = (int((tmp_path / name).read_text()) for name in ("command", "program"))
    assert runs(command) and runs(program)
    os.kill(command, signal.SIGKILL)
    wait_for(lambda: not runs(program), 10)
