"""One process a stage and checkout: two would write to the same files, beside and under their names."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from turnover.errors import UserError

_PATIENCE = 20.0  # seconds: longer than a stage whose DVC is gone takes to leave


@contextmanager
def alone(root: Path, stage: str, patience: float = _PATIENCE) -> Iterator[None]:
    """Within: no other process runs this stage here. One that is just leaving is waited for.

    Raises:
        UserError: it does not leave; the message names it.
    """
    folder = root / ".checkpoints" / "running"
    folder.mkdir(parents=True, exist_ok=True)
    lock, holder = FileLock(folder / f"{stage}.lock"), folder / f"{stage}.pid"
    try:
        try:
            lock.acquire(blocking=False)
        except Timeout:
            print(f"stage {stage}: waiting for process {_holder(holder)}, which runs it too", file=sys.stderr)
            lock.acquire(timeout=patience)
    except Timeout:
        raise UserError(
            f"stage {stage} is run in this folder by process {_holder(holder)} already: wait for it, or end it by "
            f"`kill {_holder(holder)}`"
        ) from None
    holder.write_text(str(os.getpid()), encoding="utf-8")
    try:
        yield
    finally:
        lock.release()


def _holder(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:  # it has not written it yet
        return "?"
