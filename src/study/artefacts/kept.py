"""Results of minutes, kept one by one until all are there: an interrupted stage goes on where it stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from study.artefacts.files import read_npz, write_npz
from turnover.errors import UserError

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Result:
    """Named arrays, and the seconds it took to make them (in the process that made them)."""

    arrays: Arrays
    seconds: float

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]


class KeptResults:
    """Results by name, each a file of its own with checksums, in a folder for those with the same causes.

    A file gets its name only once it is complete, so that a kill or a full disk leaves whole results or none.

    Args:
        folder: its name should carry the fingerprint of what the results depend on. Made when there is something in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """Where a result lies."""
        return self.folder / f"{name}.npz"

    def keep(self, name: str, arrays: Arrays) -> None:
        """Keep a result.

        Raises:
            OSError: the disk is full, or forbidden.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        write_npz(self.path(name), arrays)

    def read(self, name: str) -> dict[str, np.ndarray] | None:
        """A kept result; None where there is none.

        Raises:
            UserError: it is damaged.
        """
        try:
            return read_npz(self.path(name))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise UserError(
                f"the kept result {self.path(name)} is damaged ({error}): delete it and run this again, which makes "
                "this result again and no other"
            ) from error

    def get(self, name: str, make: Callable[[], Arrays]) -> Result:
        """The result called `name`; made now, and kept, unless it is there.

        Raises:
            UserError: the kept one is damaged.
        """
        kept = self.read(name)
        if kept is None:
            started = time.perf_counter()
            kept = dict(make())
            kept["seconds"] = np.asarray(time.perf_counter() - started)
            self.keep(name, kept)
        return Result(kept, float(kept.pop("seconds")))
