"""The folder that an audit writes: whole, or not there; and the one beside it in which an audit goes on."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from turnover.errors import UserError, reason

MANIFEST = "audit.json"


def check_path(path: Path) -> None:
    """Refuse what can be no path, before anybody asks what is there.

    Raises:
        UserError: one sentence.
    """
    if "\0" in str(path):
        raise UserError(f"{str(path)!r} holds a zero byte, which no path does; name another")
    try:
        path.lstat()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise UserError(f"{path} cannot be looked at: {reason(error)}; name another") from error


def check_place(out: Path, data: Path | None) -> None:
    """Refuse to write where something else is, or into the data.

    Raises:
        UserError: one sentence.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise UserError(f"{out} is there, and is no folder; name another place for the audit")
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise UserError(f"{out} holds other files than an audit's; name another folder")
    if data is not None and data.is_dir():
        inside, folder = os.path.realpath(out), os.path.realpath(data)
        if os.path.commonpath([inside, folder]) == folder:
            raise UserError(f"{out} lies in the data folder {data}, where nothing is written; name another place")


@contextmanager
def working(out: Path) -> Iterator[Path]:
    """The folder beside `out` in which an interrupted audit goes on, while no other process has it.

    Raises:
        UserError: another audit is at work there, or it cannot be written to.
    """
    work = out.with_name(f".{out.name}.part")
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock = FileLock(work / "lock")
        lock.acquire(blocking=False)
    except Timeout:
        raise UserError(f"another audit is writing {out}; wait for it, or name another folder") from None
    except OSError as error:
        raise UserError(f"{out} cannot be written: {reason(error)}; name another place (--out, or out=)") from error
    try:
        yield work
    except OSError as error:
        raise UserError(
            f"{out} could not be written: {reason(error)}; free space or name another place, and run again to go on"
        ) from error
    finally:
        lock.release()
        if work.is_dir() and {path.name for path in work.iterdir()} <= {"lock"}:
            shutil.rmtree(work)  # nothing to go on from


def publish(fresh: Path, out: Path, work: Path) -> None:
    """Put the complete folder `fresh` in the place of `out`, and remove `work`. Raises `OSError`."""
    old = work / "old"
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.replace(out, old)
    os.replace(fresh, out)
    shutil.rmtree(work, ignore_errors=True)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write `value`, the same bytes for the same value."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
