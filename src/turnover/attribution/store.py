"""Every score on disk: memory maps that outlive a kill, and say what they are.

A store is a folder: `manifest.json` (shape, dtype, fingerprint, ids in their original order),
`scores-<model>.npy` [train, target] for every model, and `done.npy`, one byte for every tile, written after the
tile. While tiles are missing the folder's name ends in ``.part``, and the next run goes on from there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor, nn

from turnover.errors import UserError
from turnover.reading.identity import add_tensor, model_fingerprint
from turnover.reading.options import as_path, check_choice

StoredType = Literal["float32", "float16"]


Grid = tuple[int, int]  # height and width of a tile


class StoredScores(NamedTuple):
    """A finished store, read-only."""

    scores: list[np.memmap[Any, Any]]  # one [train, target] for every model
    train_ids: np.ndarray[Any, Any]  # [train]
    manifest: dict[str, Any]


class ScoreStore:
    """Where `turnover.summarize` keeps the scores, and finds those of an interrupted run.

    >>> model = insert(torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3)))
    >>> x, y = torch.randn(20, 4), torch.arange(20) % 3
    >>> found = summarize(model, (x, y), (x[:5], y[:5]), store=ScoreStore("scores"))
    >>> ScoreStore.load("scores").scores[0].shape
    (20, 5)

    Args:
        folder: final place of the store.
        dtype: "float32" or "float16" (rounded at 1/2048, and capped at 65504).
    """

    def __init__(self, folder: Path | str, dtype: StoredType = "float32") -> None:
        check_choice("dtype", dtype, ("float32", "float16"))
        self.folder, self.dtype = as_path("folder", folder), dtype

    @property
    def partial(self) -> Path:
        """Where tiles go until all of them are there."""
        return self.folder.with_name(self.folder.name + ".part")

    def open(self, train_ids: Tensor, targets: int, models: int, grid: Grid, fingerprint: str, *, create: bool) -> Grid:
        """Begin, or go on with what is there.

        Args:
            train_ids: ids [train] in their original order.
            targets, models: how many.
            grid: size of the tiles of a new store.
            fingerprint: of everything that the scores depend on.
            create: make the store if there is none; of several processes only one may.

        Returns:
            The size of the store's tiles: of the run that began it.

        Raises:
            UserError: the folder holds scores of something else.
        """
        home = self.folder if self.folder.exists() else self.partial
        expected = {"dtype": self.dtype, "fingerprint": fingerprint}
        if create and not (home / "manifest.json").exists():
            self._create(train_ids, targets, models, grid, fingerprint)
        manifest = json.loads((home / "manifest.json").read_text())
        for name, value in expected.items():
            if manifest[name] != value:
                raise UserError(
                    f"{home} holds influence scores with {name} {manifest[name]}, but this run has {name} "
                    f"{value}: delete the folder or choose another"
                )
        self.grid: Grid = tuple(manifest["tile"])
        self._scores = [np.load(home / f"scores-{n}.npy", mmap_mode="r+") for n in range(models)]
        self._done = np.load(home / "done.npy", mmap_mode="r+")
        return self.grid

    def read(self, model: int, rows: slice, columns: slice) -> Tensor | None:
        """The tile [train, target] as float32, None if it is missing."""
        if not self._done[self._tile(model, rows, columns)]:
            return None
        return torch.from_numpy(np.asarray(self._scores[model][rows, columns], dtype=np.float32))

    def write(self, model: int, rows: slice, columns: slice, scores: Tensor) -> Tensor:
        """Keep a tile; returns it as `read` will."""
        limit = np.finfo(self.dtype).max
        tile = scores.cpu().clamp(-float(limit), float(limit)).numpy().astype(self.dtype)
        self._scores[model][rows, columns] = tile
        # The kernel keeps what a killed process wrote, in whatever order; so does the next line, last.
        self._done[self._tile(model, rows, columns)] = 1
        return torch.from_numpy(tile.astype(np.float32))

    def finish(self) -> None:
        """Give the store its final name: all tiles are there."""
        if not self.folder.exists():
            for written in (*self._scores, self._done):
                written.flush()
            self.partial.rename(self.folder)

    @staticmethod
    def load(folder: Path | str) -> StoredScores:
        """A finished store.

        Raises:
            UserError: there is none.
        """
        folder = as_path("folder", folder)
        if not (folder / "manifest.json").exists():
            raise UserError(f"{folder} holds no finished influence scores")
        manifest = json.loads((folder / "manifest.json").read_text())
        scores = [np.load(folder / f"scores-{n}.npy", mmap_mode="r") for n in range(manifest["models"])]
        return StoredScores(scores, np.asarray(manifest["train_ids"], dtype=np.int64), manifest)

    def _tile(self, model: int, rows: slice, columns: slice) -> tuple[int, int, int]:
        return model, rows.start // self.grid[0], columns.start // self.grid[1]

    def _create(self, train_ids: Tensor, targets: int, models: int, grid: Grid, fingerprint: str) -> None:
        self.partial.mkdir(parents=True, exist_ok=True)
        shape = len(train_ids), targets
        tiles = models, -(-shape[0] // grid[0]), -(-shape[1] // grid[1])
        for number in range(models):
            open_memmap(self.partial / f"scores-{number}.npy", "w+", np.dtype(self.dtype), shape).flush()
        open_memmap(self.partial / "done.npy", "w+", np.dtype(np.uint8), tiles).flush()
        manifest = {
            "shape": shape,
            "dtype": self.dtype,
            "models": models,
            "tile": grid,
            "fingerprint": fingerprint,
            "train_ids": train_ids.tolist(),
        }
        beside = self.partial / "manifest.json.part"
        beside.write_text(json.dumps(manifest))
        beside.rename(self.partial / "manifest.json")  # last: a folder without a manifest is begun anew


def fingerprint(models: Sequence[nn.Module], contents: Iterable[Tensor], *settings: str) -> str:
    """A hash (hex) of all that influence scores depend on: networks, masks, ids, targets and settings."""
    digest = hashlib.sha256(repr((settings, *map(model_fingerprint, models))).encode())
    for value in contents:
        add_tensor(digest, value)
    return digest.hexdigest()
