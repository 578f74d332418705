"""A stage ends with the DVC that started it, whatever shell DVC uses; one started by hand outlives its parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="stages end with their DVC on Linux only")

BEGIN = """
import os, signal, sys, time
from study.context.lifetime import end_with_dvc, leave_on_sigterm
from turnover.interruption import stop_on_signals
leave_on_sigterm()
end_with_dvc()
open(sys.argv[1] + ".part", "w").write(str(os.getpid()))
os.rename(sys.argv[1] + ".part", sys.argv[1])
def say(what):
    open(sys.argv[1] + ".said", "w").write(str(what))
"""
IDLE = """
try:
    time.sleep(60)
except KeyboardInterrupt as stopped:
    say(stopped)
"""
STEPS = """
with stop_on_signals() as stop:
    for step in range(60):
        end = time.monotonic() + 2
        while time.monotonic() < end:
            time.sleep(0.05)
        if stop():
            say("saved")
            break
"""
# Deaf to SIGTERM, as compiled code that hangs is.
DEAF = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(60)
"""
# Starts its arguments as DVC starts a stage, and waits.
STARTER = "import subprocess, sys; subprocess.Popen(sys.argv[1:]).wait()"
DASH = ["sh", "-c", '"$@"; exit $?', "sh"]  # stays, as any shell does that has something left to do
BASH = ["sh", "-c", 'exec "$@"', "sh"]


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def started(folder: Path, shell: list[str], body: str = IDLE) -> tuple[subprocess.Popen[bytes], int, Path]:
    """The starter, the stage's process id, and the file where it says why it ended."""
    script, told = folder / "stage.py", folder / "told"
    script.write_text(BEGIN + body)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("DVC_")}
    command = [sys.executable, "-c", STARTER, *shell, sys.executable, str(script), str(told)]
    starter = subprocess.Popen(command, env=clean)
    wait_for(told.exists)
    return starter, int(told.read_text()), told.with_name("told.said")


def runs(pid: int) -> bool:
    """Whether the process is there and no corpse."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("shell", [[], DASH, BASH], ids=["no shell", "a shell that stays", "a shell that hands over"])
def test_a_stage_ends_when_its_dvc_is_killed_and_not_before(tmp_path: Path, shell: list[str]) -> None:
    dvc, pid, said = started(tmp_path, ["env", "DVC_STAGE=train@x", *shell])  # DVC itself has no such variable
    time.sleep(1.5)
    assert runs(pid) and dvc.poll() is None
    dvc.kill()
    dvc.wait()
    wait_for(lambda: not runs(pid))
    assert "it was asked to end" in said.read_text()


def test_a_stage_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    dvc, pid, _ = started(tmp_path, ["env", "DVC_STAGE=train@x", *DASH], DEAF)
    dvc.kill()
    dvc.wait()
    wait_for(lambda: not runs(pid), 15)


@pytest.mark.parametrize("gone", [True, False])
@pytest.mark.parametrize("shell", [[], DASH], ids=["no shell", "a shell that stays"])
def test_a_stage_whose_dvc_is_gone_before_it_looks_ends_at_once(tmp_path: Path, shell: list[str], gone: bool) -> None:
    """Python takes a while to start. DVC's note says who it was."""
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    go, told = tmp_path / "go", tmp_path / "told"
    wait = f"import os, time\nwhile not os.path.exists({str(go)!r}):\n    time.sleep(0.02)\n"
    (tmp_path / "stage.py").write_text(wait + BEGIN.replace("end_with_dvc()\n", "") + "end_with_dvc()\n" + IDLE)
    command = [sys.executable, "-c", STARTER, "env", "DVC_STAGE=train@x", *shell, sys.executable, "stage.py", str(told)]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("DVC_")}
    dvc = subprocess.Popen(command, env=clean, cwd=tmp_path)
    (tmp_path / ".dvc" / "tmp" / "rwlock").write_text(
        json.dumps({"write": {"/x": {"pid": dvc.pid, "cmd": "dvc repro"}}})
    )
    try:
        if gone:
            time.sleep(0.5)  # the stage is there
            dvc.kill()
            dvc.wait()
        go.touch()
        wait_for(told.exists)
        pid = int(told.read_text())
        if gone:
            wait_for(lambda: not runs(pid), 15)
        else:
            time.sleep(1.5)
            assert runs(pid)
    finally:
        dvc.kill()
        dvc.wait()
    wait_for(lambda: not runs(pid), 15)


def test_a_signal_to_the_whole_group_lets_the_stage_finish_its_step(tmp_path: Path) -> None:
    """As `timeout` and batch systems send it: DVC is gone at once, and the stage has been asked already."""
    dvc, pid, said = started(tmp_path, ["env", "DVC_STAGE=train@x", *DASH], STEPS)
    os.kill(pid, signal.SIGTERM)
    dvc.kill()
    dvc.wait()
    wait_for(lambda: not runs(pid))
    assert said.read_text() == "saved"


def test_a_stage_started_by_hand_outlives_its_shell(tmp_path: Path) -> None:
    shell, pid, said = started(tmp_path, DASH)
    shell.kill()
    shell.wait()
    time.sleep(1.5)
    assert runs(pid)
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not runs(pid))
    assert said.exists()
