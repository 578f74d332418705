"""Two processes do not run one stage of one checkout at the same time."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from study.context.alone import alone
from turnover.errors import UserError

HOLD = """
import sys, time
from pathlib import Path
from study.context.alone import alone
with alone(Path(sys.argv[1]), "figures"):
    (Path(sys.argv[1]) / "begun").touch()
    time.sleep(float(sys.argv[2]))
"""


def holder(root: Path, seconds: float) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(root), str(seconds)])
    end = time.monotonic() + 60
    while not (root / "begun").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    return process


def test_the_second_one_is_told_who_is_the_first(tmp_path: Path) -> None:
    first = holder(tmp_path, 60)
    said = f"stage figures is run in this folder by process {first.pid} already"
    with pytest.raises(UserError, match=said), alone(tmp_path, "figures", patience=0.1):
        pass
    with alone(tmp_path, "report", patience=0.1):  # another stage may run
        pass
    first.kill()
    first.wait()
    with alone(tmp_path, "figures", patience=5.0):  # the system takes the lock back
        pass


def test_who_is_leaving_is_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = holder(tmp_path, 1.0)
    with alone(tmp_path, "figures"):
        assert "waiting for process" in capsys.readouterr().err
    first.wait()
