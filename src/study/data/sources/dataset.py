"""A labelled image dataset on disk: four arrays, perhaps names, and a `dataset.json` that vouches for their bytes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from turnover.errors import DataError as DataError
from turnover.errors import reason as reason

MANIFEST = "dataset.json"
ARRAYS = ("train_images.npy", "train_labels.npy", "test_images.npy", "test_labels.npy")
NAMES_FILE = "names.json"  # only where the examples have names: {"train": [...], "test": [...]}


class UnavailableError(Exception):
    """One of several sources does not give it; the message says why in a few words."""


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images, uint8 `[n, channels, height, width]` with values 0..255, and labels, int64 `[n]`.

    `names`, one an example, tell where it comes from (the file's relative path); most datasets have none.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training part and a test part whose labels index `classes`; both have names, or none."""

    name: str
    train: LabelledImages
    test: LabelledImages
    classes: tuple[str, ...]


def load(folder: Path) -> Dataset:
    """The dataset that `fetch` wrote into `folder`, every file verified by its sha256.

    Images are memory-mapped copy-on-write: they cost no memory until touched, and the files never change.
    Raises `DataError` where a file is missing, unreadable or not the bytes that were written.
    """
    manifest = verify(folder)
    names: dict[str, list[str] | None] = {"train": None, "test": None}
    try:
        train_images, train_labels, test_images, test_labels = (
            np.load(folder / name, mmap_mode="c" if name.endswith("_images.npy") else None) for name in ARRAYS
        )
        if NAMES_FILE in manifest["files"]:
            names = json.loads((folder / NAMES_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _corrupt(folder, str(error)) from error
    train, test = (None if part is None else tuple(part) for part in (names["train"], names["test"]))
    return Dataset(
        manifest["name"],
        LabelledImages(train_images, train_labels, train),
        LabelledImages(test_images, test_labels, test),
        tuple(manifest["classes"]),
    )


def verify(folder: Path) -> dict[str, Any]:
    """The manifest of the dataset in `folder`, once the sha256 of every file in it agrees; else `DataError`."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        names = (NAMES_FILE,) if NAMES_FILE in manifest["files"] else ()
        sums = {name: str(manifest["files"][name]["sha256"]) for name in (*ARRAYS, *names)}
        if not isinstance(manifest["name"], str) or not all(isinstance(c, str) for c in manifest["classes"]):
            raise TypeError("name or classes are not text")
    except FileNotFoundError as error:
        raise DataError(f"there is no dataset in {folder} ({MANIFEST} is missing); fetch it first") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _corrupt(folder, f"{MANIFEST}: {error!r}") from error
    for name, wanted in sums.items():
        try:
            found = _sha256(folder / name)
        except OSError as error:
            raise _corrupt(folder, f"{name}: {reason(error)}") from error
        if found != wanted:
            raise _corrupt(folder, f"{name} has sha256 {found[:12]}, not the {wanted[:12]} of {MANIFEST}")
    return manifest


def write(dataset: Dataset, folder: Path) -> Path:
    """Writes `dataset` into the new folder `folder`; equal datasets give equal bytes. Raises `OSError`."""
    folder.mkdir()
    parts = (dataset.train.images, dataset.train.labels, dataset.test.images, dataset.test.labels)
    files: dict[str, dict[str, object]] = {}
    for name, array in zip(ARRAYS, parts, strict=True):
        array = np.ascontiguousarray(array)
        with (folder / name).open("wb") as file:
            # Not np.save: its error on a full disk is "1000 requested and 12 written", without an errno.
            np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
            file.write(array.data)
        files[name] = {"shape": list(array.shape), "sha256": _sha256(folder / name)}
    if dataset.train.names is not None:
        _write_json(folder / NAMES_FILE, {"train": dataset.train.names, "test": dataset.test.names})
        files[NAMES_FILE] = {"sha256": _sha256(folder / NAMES_FILE)}
    manifest = {"name": dataset.name, "classes": list(dataset.classes), "files": files}
    _write_json(folder / MANIFEST, manifest)
    return folder


def publish(fresh: Path, folder: Path, *, attic: Path) -> None:
    """Moves the complete dataset `fresh` to `folder`; what stood there goes to `attic`. Raises `OSError`."""
    with suppress(FileNotFoundError):
        os.replace(folder, attic)
    try:
        os.replace(fresh, folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            if attic.exists():
                os.replace(attic, folder)
            raise
        verify(folder)  # another process published in between: all is well if what it left is whole


@contextmanager
def scratch_beside(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder`, so on one disk with it, gone afterwards. Raises `DataError`."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent, ignore_cleanup_errors=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    with scratch as path:
        yield Path(path)


def cannot_write(folder: Path, error: OSError) -> DataError:
    """The `DataError` for a full disk or an unwritable place."""
    at = f" (at {error.filename})" if error.filename else ""
    return DataError(
        f"cannot write the dataset into {folder}: {reason(error)}{at}; "
        "free some space or choose a folder that you may write to"
    )


def is_storage(error: OSError) -> bool:
    """Whether `error` is about our own disk (full, read-only, forbidden) and not about a network."""
    return error.errno in {
        errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO,
    }  # fmt: skip


def _corrupt(folder: Path, why: str) -> DataError:
    return DataError(f"the dataset in {folder} is corrupt ({why}); fetch it again")


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
