"""Results of minutes, kept one by one until all are there: an interrupted stage goes on where it stopped."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from study.artefacts.files import writing
from turnover.errors import UserError

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Piece:
    """Named arrays, and the seconds it took to make them (in the process that made them)."""

    arrays: Arrays
    seconds: float

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]


class Pieces:
    """Pieces by name in a folder, whose name should carry the fingerprint of what they depend on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, name: str, make: Callable[[], Arrays]) -> Piece:
        """The piece called `name`; made now, and kept, unless it is there.

        Raises:
            UserError: the kept piece is corrupt.
        """
        path = self.folder / f"{name}.npz"
        if not path.exists():
            started = time.perf_counter()
            arrays = make()
            seconds = time.perf_counter() - started
            path.parent.mkdir(parents=True, exist_ok=True)
            with writing(path) as beside, beside.open("wb") as file:
                np.savez(file, allow_pickle=False, __seconds=np.float64(seconds), **arrays)
        try:
            with np.load(path, allow_pickle=False) as stored:
                found = {key: stored[key] for key in stored.files}
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} is corrupt ({error}): remove it, and run the stage again") from error
        return Piece(found, float(found.pop("__seconds")))
