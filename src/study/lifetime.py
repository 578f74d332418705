"""When a stage has to go: asked by SIGTERM, or because the DVC that started it is gone.

A DVC that is killed (by SIGTERM too) leaves its running stage behind, and a second `dvc repro` would then write the
same outputs at the same time.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from types import FrameType

from turnover.interruption import Interrupted


def leave_on_sigterm() -> None:
    """Make SIGTERM end this process as Ctrl-C does: files written beside are removed, and it says so."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise Interrupted("it was asked to end; nothing half-written was left behind", number)

    signal.signal(signal.SIGTERM, leave)


def end_with_dvc() -> None:
    """Get a SIGTERM when the DVC that runs this stage ends, however it ends. Only where Linux offers it.

    A stage that somebody starts by hand may outlive their shell.
    """
    if "DVC_STAGE" not in os.environ or not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG of prctl(2)
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)
    if os.getppid() != parent:  # it was gone before the kernel knew
        sys.exit("error: the DVC that started this stage is gone")
