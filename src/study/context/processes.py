"""Pieces of work side by side, a process each: what they report, how they are stopped, and what went wrong."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from study.context.lifetime import end_with_parent, leave_on_sigterm
from turnover.errors import UserError
from turnover.interruption import Interrupted, StopRequest, stop_on_signals

# What a piece of work calls with a kind and a value that can be pickled; it never waits for anybody but this process.
Report = Callable[[str, Any], None]

_LOOK = 0.25  # seconds between two looks at whether somebody asked to stop


@dataclass(frozen=True)
class _Worker:
    name: str
    process: BaseProcess
    pipe: Connection


def in_processes(
    names: Sequence[str],
    work: Callable[[str, Report], None],
    *,
    processes: int,
    on_report: Callable[[str, str, Any], None],
    fork: bool = True,
) -> None:
    """Call ``work(name, report)`` for every name, each in a process of its own, at most `processes` at once.

    The first Ctrl-C or SIGTERM asks every process to stop, which may save first; a second one ends them at once. They
    also stop when this process is gone, however it went, and when one of them fails.

    Args:
        names: one piece of work each.
        work: what to do; it may use `turnover.interruption.stop_on_signals`.
        processes: at most so many at a time.
        on_report: called in this process, in no particular order over names.
        fork: the processes take over this one's imports, which saves seconds each. All are forked before any begins,
            so that they inherit no thread of what this process does meanwhile. False, or not on Linux: everything in
            this process, one after another; a GPU that is in use does not survive a fork.

    Raises:
        UserError: a piece of work raised one; the first message is passed on.
        Interrupted: somebody asked to stop.
        RuntimeError: a piece of work raised anything else (its traceback is printed), or its process was killed.
    """
    if not fork or not sys.platform.startswith("linux"):
        for name in names:
            work(name, partial(on_report, name))
        return
    context: Any = multiprocessing.get_context("fork")
    workers = [_start(context, name, work) for name in names]
    waiting, running, failures = deque(workers), dict[Connection, _Worker](), list[BaseException]()
    with stop_on_signals() as stop:
        try:
            while waiting or running:
                if failures or stop():
                    failures += _stop(workers, stop, on_report)
                    break
                while waiting and len(running) < processes:
                    worker = waiting.popleft()
                    with suppress(OSError):  # it was killed while it waited: `_receive` will say so
                        worker.pipe.send("begin")
                    running[worker.pipe] = worker
                for pipe in wait(list(running), timeout=_LOOK):
                    assert isinstance(pipe, Connection)
                    failure = _receive(running[pipe], on_report)
                    if failure is not _MORE:
                        del running[pipe]
                        failures += [failure] if failure is not None else []
        finally:
            for worker in workers:
                if worker.process.is_alive():
                    worker.process.kill()
                worker.process.join()
        if stop():
            said = next((str(of) for of in failures if isinstance(of, Interrupted)), "it was stopped")
            raise Interrupted(said, stop())
    real = [failure for failure in failures if not isinstance(failure, Interrupted)]
    if failures:
        raise (real or failures)[0]


_MORE = Interrupted("there is more to come")


def _start(context: Any, name: str, work: Callable[[str, Report], None]) -> _Worker:
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, name, work, os.getpid()), name=name, daemon=True)
    with warnings.catch_warnings():
        # Python warns of any other thread; the one there is only watches whether DVC lives.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    theirs.close()
    return _Worker(name, process, ours)


def _serve(pipe: Connection, name: str, work: Callable[[str, Report], None], parent: int) -> None:
    """The life of a process: wait for its turn, work, say how it ended."""
    # A group of its own, so that Ctrl-C reaches only the process that started it: from there comes exactly one SIGTERM.
    os.setpgrp()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    leave_on_sigterm()
    end_with_parent(parent)
    try:
        pipe.recv()  # "begin"
    except EOFError:  # the process that started this one is gone
        return
    except Interrupted as stopped:
        _say(pipe, ("end", stopped))
        return
    try:
        work(name, lambda kind, value: pipe.send(("report", kind, value)))
        pipe.send(("end", None))
    except Interrupted as stopped:
        _say(pipe, ("end", stopped))
    except UserError as error:
        _say(pipe, ("end", UserError(str(error))))
    except OSError as error:
        _say(pipe, ("end", UserError(f"{name}: {error.strerror or error} ({error.filename or 'no file named'})")))
    except BaseException as error:
        traceback.print_exc()
        _say(pipe, ("end", RuntimeError(f"{name}: {type(error).__name__}: {error}")))


def _say(pipe: Connection, message: Any) -> None:
    try:
        pipe.send(message)
    except OSError:  # nobody listens any more
        sys.exit(1)


def _receive(worker: _Worker, on_report: Callable[[str, str, Any], None]) -> BaseException | None:
    """Take one message: `_MORE` after a report, None after a good end, else what went wrong."""
    try:
        message = worker.pipe.recv()
    except (EOFError, OSError):
        worker.process.join()
        code = worker.process.exitcode
        how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with status {code}"
        return UserError(f"the process of {worker.name} {how}: is there enough memory? Run it again to go on")
    if message[0] == "report":
        on_report(worker.name, message[1], message[2])
        return _MORE
    failure: BaseException | None = message[1]
    return failure


def _stop(
    workers: Sequence[_Worker], stop: StopRequest, on_report: Callable[[str, str, Any], None]
) -> list[BaseException]:
    """Ask every process to stop, once, and hear out what it says until it is gone."""
    for worker in workers:
        if worker.process.is_alive() and worker.process.pid is not None:
            os.kill(worker.process.pid, signal.SIGTERM)
    failures: list[BaseException] = []
    for worker in workers:
        failure: BaseException | None = _MORE
        while failure is _MORE:
            failure = _receive(worker, on_report)
        if isinstance(failure, Interrupted):
            failures.append(failure)
    return failures
