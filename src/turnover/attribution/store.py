"""Every score on disk: memory maps that outlive a kill, and say what they are.

A store is a folder: `manifest.json` (shape, dtype, fingerprint, ids in their original order, and a checksum of all
that), `scores-<model>.npy` [train, target] for every model, and `done.npy` with a number for every tile: 0 while it is
missing, else `_DONE` and the checksum of its bytes. So it matters not in which order a dying machine brought them to
the disk: a tile that is not what its checksum says is computed again. While tiles are missing the folder's name ends in
``.part``, and the next run goes on from there.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import warnings
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.lib.format import dtype_to_descr, open_memmap, write_array_header_1_0
from torch import Tensor, nn

from turnover.attribution.room import take_room
from turnover.errors import UserError
from turnover.reading.identity import add_tensor, model_fingerprint
from turnover.reading.options import as_path, check_choice

StoredType = Literal["float32", "float16"]

Grid = tuple[int, int]  # height and width of a tile

_DONE = 1 << 32  # added to a checksum of 32 bits, which may be 0


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
            UserError: the folder holds scores of something else, is damaged beyond single tiles, or there is no room.
        """
        home = self.folder if self.folder.exists() else self.partial
        expected = {"dtype": self.dtype, "fingerprint": fingerprint}
        if create and home == self.partial and not (home / "manifest.json").exists():
            self._create(train_ids, targets, models, grid, fingerprint)
        manifest = _manifest(home)
        for name, value in expected.items():
            if manifest[name] != value:
                raise UserError(
                    f"{home} holds influence scores with {name} {manifest[name]}, but this run has {name} "
                    f"{value}: delete the folder or choose another"
                )
        self.grid: Grid = tuple(manifest["tile"])
        if create:
            for path, shape, dtype in _arrays(home, manifest):
                _take_room(path, shape, dtype)  # also where a file was cut off: its tiles are missing then
        self._home, self._warned = home, False
        *self._scores, self._done = (_mapped(*array, "r+") for array in _arrays(home, manifest))
        return self.grid

    def read(self, model: int, rows: slice, columns: slice) -> Tensor | None:
        """The tile [train, target] as float32, None if it is missing; a damaged one is missing, and that is said."""
        noted = int(self._done[self._tile(model, rows, columns)])
        if not noted:
            return None
        tile = np.ascontiguousarray(self._scores[model][rows, columns])
        if noted != _checksum(tile):
            if not self._warned:
                warnings.warn(
                    f"{self._home} is damaged: scores that are not what was written are computed again", stacklevel=2
                )
            self._warned = True
            return None
        return torch.from_numpy(tile.astype(np.float32))

    def write(self, model: int, rows: slice, columns: slice, scores: Tensor) -> Tensor:
        """Keep a tile; returns it as `read` will."""
        limit = np.finfo(self.dtype).max
        tile = scores.cpu().clamp(-float(limit), float(limit)).numpy().astype(self.dtype, order="C")
        self._scores[model][rows, columns] = tile
        self._done[self._tile(model, rows, columns)] = _checksum(tile)
        return torch.from_numpy(tile.astype(np.float32))

    def finish(self) -> None:
        """Give the store its final name: all tiles are there."""
        for written in (*self._scores, self._done):
            written.flush()
        if not self.folder.exists():
            self.partial.rename(self.folder)

    @staticmethod
    def load(folder: Path | str, *, verify: bool = True) -> StoredScores:
        """A finished store.

        Args:
            folder: its place.
            verify: read all of it once, and hold every tile against its checksum; False for a store so large that
                this takes too long.

        Raises:
            UserError: there is none, or it is damaged.
        """
        folder = as_path("folder", folder)
        if not (folder / "manifest.json").exists():
            raise UserError(f"{folder} holds no finished influence scores")
        manifest = _manifest(folder)
        *scores, done = (_mapped(*array, "r") for array in _arrays(folder, manifest))
        height, width = manifest["tile"]
        for model, row, column in np.ndindex(done.shape) if verify else ():
            tile = scores[model][row * height : (row + 1) * height, column * width : (column + 1) * width]
            if int(done[model, row, column]) != _checksum(np.ascontiguousarray(tile)):
                raise _damaged(folder / f"scores-{model}.npy", "scores are not what was written")
        return StoredScores(scores, np.asarray(manifest["train_ids"], dtype=np.int64), manifest)

    def _tile(self, model: int, rows: slice, columns: slice) -> tuple[int, int, int]:
        return model, rows.start // self.grid[0], columns.start // self.grid[1]

    def _create(self, train_ids: Tensor, targets: int, models: int, grid: Grid, fingerprint: str) -> None:
        manifest = {
            "shape": [len(train_ids), targets],
            "dtype": self.dtype,
            "models": models,
            "tile": list(grid),
            "fingerprint": fingerprint,
            "train_ids": train_ids.tolist(),
        }
        manifest["checksum"] = _sealed(manifest)
        begun = []
        try:
            self.partial.mkdir(parents=True, exist_ok=True)
            for path, shape, dtype in _arrays(self.partial, manifest):
                path.unlink(missing_ok=True)
                begun.append(path)
                path.write_bytes(_header(shape, dtype))
                _take_room(path, shape, dtype)
            beside = self.partial / "manifest.json.part"
            begun.append(beside)
            with beside.open("w", encoding="utf-8") as text:
                json.dump(manifest, text)
                text.flush()
                os.fsync(text.fileno())
            beside.rename(self.partial / "manifest.json")  # last: a folder without a manifest is begun anew
        except OSError as error:
            raise UserError(
                f"{self.partial} could not be written ({error.strerror or error}): free space, make its folder "
                "writable, or choose another"
            ) from error
        finally:
            if not (self.partial / "manifest.json").exists():
                for path in begun:
                    path.unlink(missing_ok=True)


Array = tuple[Path, tuple[int, ...], np.dtype[Any]]


def _arrays(home: Path, manifest: Mapping[str, Any]) -> list[Array]:
    """Files of a store, with shape and type of what is in them: the scores of every model, then what is done."""
    (train, targets), (height, width), models = manifest["shape"], manifest["tile"], manifest["models"]
    tiles = models, -(-train // height), -(-targets // width)
    dtype = np.dtype(manifest["dtype"])
    scores: list[Array] = [(home / f"scores-{number}.npy", (train, targets), dtype) for number in range(models)]
    return [*scores, (home / "done.npy", tiles, np.dtype(np.uint64))]


def _header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """What a file of numpy begins with."""
    begin = io.BytesIO()
    write_array_header_1_0(begin, {"descr": dtype_to_descr(dtype), "fortran_order": False, "shape": shape})
    return begin.getvalue()


def _take_room(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Let a file be as long as its array wants it; what is missing of it becomes zeros."""
    if not path.exists():
        return
    try:
        with path.open("r+b") as file:
            size = len(_header(shape, dtype)) + math.prod(shape) * dtype.itemsize
            take_room(file, size, str(path), 'choose another folder on a larger disk, or dtype="float16"')
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}): make it writable") from error


def _mapped(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], mode: Literal["r", "r+"]) -> np.memmap[Any, Any]:
    """An array of the store.

    Raises:
        UserError: its file is gone, or holds something else.
    """
    try:
        array = open_memmap(path, mode)
    except Exception as error:  # of damaged headers numpy raises nearly anything
        raise _damaged(path, str(error) or type(error).__name__) from error
    if array.shape != shape or array.dtype != dtype or not array.flags.c_contiguous:
        raise _damaged(path, f"it holds {array.dtype} {list(array.shape)} instead of {dtype} {list(shape)}")
    return array


def _manifest(home: Path) -> dict[str, Any]:
    """What a store says of itself.

    Raises:
        UserError: nothing, or not what was written.
    """
    path = home / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest.pop("checksum") == _sealed(manifest):
            return dict(manifest)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, str(error) or type(error).__name__) from error
    raise _damaged(path, "it is not what was written")


def _sealed(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _checksum(tile: np.ndarray[Any, Any]) -> int:
    """What `done.npy` holds of a tile, whose bytes lie in one piece."""
    return _DONE + zlib.crc32(tile.data)


def _damaged(path: Path, how: str) -> UserError:
    return UserError(
        f"{path} is damaged or of another version ({how}): delete the folder {path.parent} to compute its scores "
        "again, or choose another"
    )


def fingerprint(models: Sequence[nn.Module], contents: Iterable[Tensor], *settings: str) -> str:
    """A hash (hex) of all that influence scores depend on: networks, masks, ids, targets and settings."""
    digest = hashlib.sha256(repr((settings, *map(model_fingerprint, models))).encode())
    for value in contents:
        add_tensor(digest, value)
    return digest.hexdigest()
