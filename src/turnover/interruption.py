"""Ctrl-C and SIGTERM while something is computed that can be saved: finish the step, save, leave."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """The work stopped because somebody asked for it; the message says what was saved.

    No `Exception`, so that no ``except Exception`` takes it for a failure.

    Args:
        message: for the user.
        number: the signal, whose exit status is ``128 + number``.
    """

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.number = number


_pending: list[StopRequest] = []  # of the `stop_on_signals` that are active, the innermost last


class StopRequest:
    """Whether somebody asked to stop: call it."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self) -> int:
        """The signal that asked, or 0."""
        return self.number


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Within: the first Ctrl-C or SIGTERM only sets the `StopRequest`, for the work to see; a second one acts as usual.

    Signals reach the main thread only; in another thread nothing is changed and nobody asks.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in _SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(number: int, frame: FrameType | None) -> None:
        request.number = number
        restore()

    for number in _SIGNALS:
        signal.signal(number, ask)
    _pending.append(request)
    try:
        yield request
    finally:
        _pending.pop()
        restore()


def stop_this_process() -> None:
    """Send this process a SIGTERM, unless it is finishing its step because somebody asked it to stop before: for
    whoever is the second to ask without wanting to be more urgent than the first."""
    if not (_pending and _pending[-1]()):
        os.kill(os.getpid(), signal.SIGTERM)
