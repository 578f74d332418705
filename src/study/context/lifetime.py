"""When a process of ours has to go: asked by SIGTERM, or because what started it is gone.

A DVC that is killed (by SIGTERM too) leaves its running stage behind, and a second `dvc repro` would then write the
same outputs at the same time. Nothing here imports anything slow: a stage watches its DVC before it imports torch.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType

from turnover.interruption import Interrupted, stop_this_process

_LOOK = 0.5  # seconds between two looks at whether the other process is still there
_GRACE = 4.0  # seconds to save and leave in, once it is gone: of a stage, then of its trainings
_PR_SET_PDEATHSIG = 1  # of linux/prctl.h
_C = ctypes.CDLL(None)  # loaded now: `signal_when_orphaned` is called between fork and exec
_NOTES = Path(".dvc", "tmp", "rwlock")  # where DVC notes its process id while it runs a stage


def leave_on_sigterm() -> None:
    """Make SIGTERM end this process as Ctrl-C does: files written beside are removed, and it says so."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise Interrupted("it was asked to end; nothing half-written was left behind", number)

    signal.signal(signal.SIGTERM, leave)


def end_with_dvc() -> None:
    """End this process once the DVC that runs this stage has ended, however it ended. Only on Linux.

    It gets a SIGTERM, and is killed where it has not left some seconds later: stuck in compiled code, say. A stage that
    somebody starts by hand may outlive their shell.
    """
    stage = os.environ.get("DVC_STAGE")
    if stage is None or not sys.platform.startswith("linux"):
        return
    started = _started_by_dvc(stage)
    dvc = _parent(started)
    if _gone_before(dvc):
        stop_this_process()
    # Who loses its parent gets another one. A signal to the child on its parent's death (PR_SET_PDEATHSIG) would
    # reach only the shell, where DVC uses one that stays: dash does, bash hands over to the command.
    _end_when_orphaned(started, dvc)


def end_with_parent(parent: int) -> None:
    """End this process as `end_with_dvc` does, once `parent`, which started it, has ended, however it ended."""
    if sys.platform.startswith("linux"):
        _end_when_orphaned(os.getpid(), parent)


def end_with_make() -> None:
    """Let this process get a SIGTERM once the `make` that started it has ended, however it ended. Only on Linux.

    A command that somebody starts by hand may outlive their shell.
    """
    parent = os.getppid()
    if "MAKELEVEL" in os.environ and _name(parent).endswith("make"):
        signal_when_orphaned(parent)


def signal_when_orphaned(parent: int) -> None:
    """Let this process, also once it runs another program, get a SIGTERM when `parent` has ended. Only on Linux."""
    if sys.platform.startswith("linux"):
        _C.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # gone before
            os.kill(os.getpid(), signal.SIGTERM)


def _end_when_orphaned(child: int, parent: int) -> None:
    def watch() -> None:
        while _parent(child) == parent:
            time.sleep(_LOOK)
        stop_this_process()  # a SIGTERM to the whole process group reached both
        time.sleep(_GRACE)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="end-when-orphaned", daemon=True).start()


def _gone_before(dvc: int) -> bool:
    """Whether DVC was gone before this process looked for it, so that `dvc` is who took over its children."""
    try:
        noted = json.loads(_NOTES.read_text(encoding="utf-8"))
        pids = {of["pid"] for of in noted["write"].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # no note, or one that is just being written
        return False
    return bool(pids) and dvc not in pids and (dvc == 1 or not any(Path(f"/proc/{pid}").exists() for pid in pids))


def _started_by_dvc(stage: str) -> int:
    """The process that DVC itself started: this one, or the shell above it. DVC tells both what stage they are."""
    mark = f"DVC_STAGE={stage}".encode()
    pid = os.getpid()
    while True:
        parent = _parent(pid)
        try:
            environment = Path(f"/proc/{parent}/environ").read_bytes().split(b"\0")
        except OSError:  # somebody else's process, or none that can be seen from here
            return pid
        if mark not in environment:
            return pid
        pid = parent


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _parent(pid: int) -> int:
    """Process id of the parent; 0 where there is no such process any more."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return int(status.rpartition(")")[2].split()[1])  # the name before, in brackets, may hold anything
