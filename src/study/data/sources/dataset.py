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

from turnover.errors import UserError

MANIFEST = "dataset.json"
ARRAYS = ("train_images.npy", "train_labels.npy", "test_images.npy", "test_labels.npy")
NAMES_FILE = "names.json"  # only where the examples have names: {"train": [...], "test": [...]}


class DataError(UserError):
    """A dataset cannot be had or used. The message is complete: what was tried, and what to do."""


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images, uint8 `[n, channels, height, width]` with values 0..255, and labels, int64 `[n]`.

    `names`, one an example, tell where it comes from (the file's relative path); most datasets have none.
    Raises `DataError` where shape or dtype is another.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise DataError(
                f"images must be uint8 [n, channels, height, width], not {self.images.dtype} {list(self.images.shape)}"
            )
        if self.labels.dtype != np.int64 or self.labels.shape != self.images.shape[:1]:
            raise DataError(
                f"labels must be int64 [{len(self.images)}], one an image, "
                f"not {self.labels.dtype} {list(self.labels.shape)}"
            )
        if self.names is not None and len(self.names) != len(self.labels):
            raise DataError(f"names must be {len(self.labels)}, one an image, not {len(self.names)}")

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training part and a test part whose labels index `classes`.

    Raises `DataError` where a part is empty, a label lies outside `0..len(classes)-1`, or only one part has names.
    """

    name: str
    train: LabelledImages
    test: LabelledImages
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        for part, examples in (("train", self.train), ("test", self.test)):
            if not len(examples):
                raise DataError(f"dataset {self.name}: its {part} part is empty; it needs an example")
            low, high = int(examples.labels.min()), int(examples.labels.max())
            if low < 0 or high >= len(self.classes):
                raise DataError(
                    f"dataset {self.name}: {part} labels run from {low} to {high}, "
                    f"allowed is 0 to {len(self.classes) - 1}"
                )
        if (self.train.names is None) != (self.test.names is None):
            raise DataError(f"dataset {self.name}: only one of its parts has names; give both or none")


def load(folder: Path) -> Dataset:
    """The dataset that `fetch` wrote into `folder`, every file verified by its sha256.

    Images are memory-mapped copy-on-write: they cost no memory until touched, and the files never change.
    Raises `DataError` where a file is missing, unreadable or not the bytes that were written.
    """
    folder = Path(folder)
    manifest = verify(folder)
    try:
        train_images, train_labels, test_images, test_labels = (
            np.load(folder / name, mmap_mode="c" if name.endswith("_images.npy") else None) for name in ARRAYS
        )
        train_names, test_names = _read_names(folder) if NAMES_FILE in manifest["files"] else (None, None)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"the dataset in {folder} is corrupt ({error}); fetch it again") from error
    return Dataset(
        manifest["name"],
        LabelledImages(train_images, train_labels, train_names),
        LabelledImages(test_images, test_labels, test_names),
        tuple(manifest["classes"]),
    )


def verify(folder: Path) -> dict[str, Any]:
    """The manifest of the dataset in `folder`, once the sha256 of every file in it agrees; else `DataError`."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        names = (NAMES_FILE,) if NAMES_FILE in manifest["files"] else ()
        sums = {name: str(manifest["files"][name]["sha256"]) for name in (*ARRAYS, *names)}
        if not isinstance(manifest["name"], str) or not all(isinstance(c, str) for c in manifest["classes"]):
            raise TypeError("name or classes are not text")
    except FileNotFoundError as error:
        raise DataError(f"there is no dataset in {folder} ({MANIFEST} is missing); fetch it first") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"the dataset in {folder} is corrupt ({MANIFEST}: {error!r}); fetch it again") from error
    for name, wanted in sums.items():
        try:
            found = _sha256(folder / name)
        except OSError as error:
            raise DataError(f"the dataset in {folder} is corrupt ({name}: {reason(error)}); fetch it again") from error
        if found != wanted:
            raise DataError(
                f"the dataset in {folder} is corrupt ({name} has sha256 {found[:12]}, "
                f"not the {wanted[:12]} of {MANIFEST}); fetch it again"
            )
    return dict(manifest)


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
    if dataset.train.names is not None and dataset.test.names is not None:
        names = {"train": dataset.train.names, "test": dataset.test.names}
        _write_json(folder / NAMES_FILE, names)
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


def reason(error: BaseException) -> str:
    """`error` in a few words."""
    inner = getattr(error, "reason", None)  # URLError hides the cause there
    if isinstance(inner, BaseException):
        return reason(inner)
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:400]


def _read_names(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    names = json.loads((folder / NAMES_FILE).read_text(encoding="utf-8"))
    return tuple(names["train"]), tuple(names["test"])


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
