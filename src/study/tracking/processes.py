"""Whose run it is: a process that was killed leaves its runs RUNNING, and somebody else has to end them."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

HOST, PROCESS = "turnover.host", "turnover.process"


def owner_tags() -> dict[str, str]:
    """Tags that name this host and this process."""
    return {HOST: socket.gethostname(), PROCESS: f"{os.getpid()} {_started(os.getpid())}"}


def here(tags: Mapping[str, str]) -> bool:
    """Whether a process of this host made the run."""
    return tags.get(HOST) == socket.gethostname()


def orphaned(tags: Mapping[str, str]) -> bool:
    """Whether a process of this host made the run and is gone. One that another host made may well be alive."""
    number, _, started = tags.get(PROCESS, "").partition(" ")
    if not here(tags) or not number.isdecimal():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False  # somebody else's
    return _started(int(number)) != started  # the number was given to another process since


def _started(process: int) -> str:
    """When a process started, in ticks since the machine did; nothing where this cannot be asked."""
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return status.rpartition(")")[2].split()[19]  # the name before, in brackets, may hold anything
