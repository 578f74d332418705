"""What every network said, on disk: memory maps that outlive a kill, one row a network.

A folder holds `manifest.json` (shape and fingerprint), `margin.npy`, `correct.npy` and `done.npy`, one byte a
network, written after its row.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from turnover.errors import UserError


class RowStore:
    """Rows of finished networks; opens the folder, or begins it.

    Args:
        folder: where the rows are.
        networks: how many rows.
        examples: how long a row is.
        fingerprint: of everything that the rows depend on.

    Raises:
        UserError: the folder holds rows of something else.
    """

    def __init__(self, folder: Path, networks: int, examples: int, fingerprint: str) -> None:
        wanted = {"networks": networks, "examples": examples, "fingerprint": fingerprint}
        if not (folder / "manifest.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            open_memmap(folder / "margin.npy", "w+", np.dtype(np.float32), (networks, examples)).flush()
            open_memmap(folder / "correct.npy", "w+", np.dtype(np.bool_), (networks, examples)).flush()
            open_memmap(folder / "done.npy", "w+", np.dtype(np.uint8), (networks,)).flush()
            beside = folder / "manifest.json.part"
            beside.write_text(json.dumps(wanted), encoding="utf-8")
            beside.rename(folder / "manifest.json")  # last: a folder without a manifest is begun anew
        found = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        for name, value in wanted.items():
            if found[name] != value:
                raise UserError(
                    f"{folder} holds networks with {name} {found[name]}, but this call has {name} {value}: "
                    "delete the folder or choose another"
                )
        self.margin = np.load(folder / "margin.npy", mmap_mode="r+")
        self.correct = np.load(folder / "correct.npy", mmap_mode="r+")
        self._done = np.load(folder / "done.npy", mmap_mode="r+")

    def missing(self) -> list[int]:
        """Networks whose row is not there, in order."""
        return [int(row) for row in np.flatnonzero(self._done == 0)]

    def write(self, network: int, margin: np.ndarray, correct: np.ndarray) -> None:
        """Keep what a network said."""
        self.margin[network] = margin
        self.correct[network] = correct
        # The kernel keeps what a killed process wrote, in whatever order; so does the next line, last.
        self._done[network] = 1
