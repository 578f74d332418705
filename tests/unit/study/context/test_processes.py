"""Work in processes of its own: what is reported, how it stops, and what is said of a failure."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from study.context.processes import Report, in_processes
from tests.support import ROOT
from turnover.errors import UserError
from turnover.interruption import Interrupted, stop_on_signals

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, and looks into /proc")


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def collect(names: list[str], work: Callable[[str, Report], None], processes: int) -> list[tuple[str, str, Any]]:
    said: list[tuple[str, str, Any]] = []
    in_processes(names, work, processes=processes, on_report=lambda *of: said.append(of))
    return said


@pytest.mark.parametrize("processes", [1, 2, 9])
def test_every_name_is_worked_on_in_a_process_of_its_own(processes: int) -> None:
    def work(name: str, report: Report) -> None:
        report("pid", os.getpid())
        report("large", name * 300_000)  # more than a pipe holds

    said = collect(["a", "b", "c", "d"], work, processes)
    pids = {name: value for name, kind, value in said if kind == "pid"}
    assert sorted(pids) == ["a", "b", "c", "d"]
    assert len({*pids.values(), os.getpid()}) == 5
    assert all(value == name * 300_000 for name, kind, value in said if kind == "large")


@pytest.mark.parametrize("processes", [1, 2])
def test_no_more_at_once_than_allowed(processes: int, tmp_path: Path) -> None:
    def work(name: str, report: Report) -> None:
        (tmp_path / name).touch()
        end = time.monotonic() + 2  # others may be slow to start, or the last one stands alone
        while len(list(tmp_path.iterdir())) < processes and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.05)  # time for one too many
        report("beside", len(list(tmp_path.iterdir())))
        (tmp_path / name).unlink()

    beside = [value for _, _, value in collect(list("abcde"), work, processes)]
    assert max(beside) == processes


def test_without_a_fork_everything_happens_here_one_after_another() -> None:
    said: list[tuple[str, str, Any]] = []
    in_processes(
        ["a", "b"],
        lambda name, report: report("pid", os.getpid()),
        processes=2,
        on_report=lambda *of: said.append(of),
        fork=False,
    )
    assert said == [("a", "pid", os.getpid()), ("b", "pid", os.getpid())]


def test_nothing_to_do_starts_nothing() -> None:
    assert collect([], lambda name, report: pytest.fail("called"), 2) == []


def test_a_users_mistake_is_passed_on_and_stops_the_others(tmp_path: Path) -> None:
    def work(name: str, report: Report) -> None:
        if name == "bad":
            raise UserError("the setting x is wrong")
        with stop_on_signals() as stop:
            while not stop():
                time.sleep(0.02)
        (tmp_path / "saved").touch()
        raise Interrupted("saved", stop())

    with pytest.raises(UserError, match="the setting x is wrong"):
        collect(["good", "bad", "waiting"], work, 2)
    assert (tmp_path / "saved").exists()


def test_a_fault_of_ours_shows_its_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    def work(name: str, report: Report) -> None:
        raise KeyError("nobody")

    with pytest.raises(RuntimeError, match="a: KeyError: 'nobody'"):
        collect(["a"], work, 1)
    assert "Traceback" in capfd.readouterr().err


def test_a_killed_process_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the process of a was killed by signal 9: is there enough memory\?"):
        collect(["a"], lambda name, report: os.kill(os.getpid(), signal.SIGKILL), 1)


SCRIPT = """
import os, sys, time
from pathlib import Path
from study.context.lifetime import leave_on_sigterm
from study.context.processes import in_processes
from turnover.interruption import Interrupted, stop_on_signals
folder = Path(sys.argv[1])
def work(name, report):
    (folder / f"{name}.part").write_text(str(os.getpid()))
    (folder / f"{name}.part").rename(folder / f"{name}.pid")
    with stop_on_signals() as stop:
        while not stop():
            time.sleep(0.02)
    (folder / f"{name}.saved").touch()
    raise Interrupted("saved where it was", stop())
leave_on_sigterm()
try:
    in_processes(["a", "b", "c"], work, processes=2, on_report=print)
except Interrupted as stopped:
    print(stopped, stopped.number)
    sys.exit(7)
"""


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "SIGINT to the group", "SIGTERM to the group", "SIGKILL"])
def test_a_signal_lets_every_process_save_once_and_leaves_none_behind(how: str, tmp_path: Path) -> None:
    number = getattr(signal, how.split()[0])
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    parent = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env=env,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: (tmp_path / "a.pid").exists() and (tmp_path / "b.pid").exists())
    pids = [int((tmp_path / f"{name}.pid").read_text()) for name in "ab"]
    (os.killpg if "group" in how else os.kill)(parent.pid, number)
    said = parent.communicate(timeout=60)[0]
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    assert sorted(path.name for path in tmp_path.glob("*.saved")) == ["a.saved", "b.saved"]
    assert not (tmp_path / "c.pid").exists()
    if how != "SIGKILL":
        assert (parent.returncode, said) == (7, f"saved where it was {int(number)}\n")
