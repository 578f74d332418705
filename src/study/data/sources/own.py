"""The user's own images: a folder of class folders, or a table (csv, parquet) of path, label and split."""

from __future__ import annotations

import csv
import hashlib
import itertools
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from study.data.sources.dataset import DataError, Dataset, LabelledImages, reason

log = logging.getLogger(__name__)

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
TEST_SHARE = 0.1
GREY = frozenset({"1", "L", "LA"})
DEEP = ("I", "F")  # Pillow clips these to 8 bits without a word: "I", "I;16", "I;16B", "F"


@dataclass(frozen=True)
class Row:
    """One image: where it lies, its name (the relative path, with `/`), its class, its split if given."""

    path: Path
    name: str
    label: str
    split: str | None


def own_dataset(name: str) -> Dataset:
    """The dataset `folder:PATH` or `table:PATH`, examples in the order of their names.

    Grey images give one channel; if any is coloured, all become RGB. Where no split is given, about 10 % of
    the examples are the test part, chosen by a hash of their name: adding images moves no other image.
    Both parts have names: the files' paths relative to the folder, or as the table has them.
    Raises `DataError` that names the file or column at fault.
    """
    kind, _, place = name.partition(":")
    if not place:
        raise DataError(f"dataset {name!r} names no place; write {kind}:PATH")
    path = Path(place).expanduser()
    try:
        rows = sorted(_folder(path) if kind == "folder" else _table(path), key=lambda row: row.name)
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be read: {reason(error)}") from error
    if not rows:
        raise DataError(f"{path} holds no image; {_LAYOUT[kind]}")
    classes = tuple(sorted({row.label for row in rows}, key=_by_number(row.label for row in rows)))
    if len(classes) < 2:
        raise DataError(f"{path} holds one class only, {classes[0]!r}, not two or more; {_LAYOUT[kind]}")
    test = _is_test(rows)
    trained = {row.label for row in itertools.compress(rows, ~test)}
    for label in classes:
        if label not in trained:
            raise DataError(f"{path}: class {label!r} has no training image; add some, or give the split")
    if not test.any():
        raise DataError(f"{path}: no image is in the test split; give it one, or give no split at all")
    images = _read(rows)
    index = {label: number for number, label in enumerate(classes)}
    labels = np.array([index[row.label] for row in rows], dtype=np.int64)
    # A name that is no valid UTF-8 could be written neither to json nor to parquet.
    names = [row.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for row in rows]
    train_part, test_part = (
        LabelledImages(images[part], labels[part], tuple(itertools.compress(names, part))) for part in (~test, test)
    )
    return Dataset(name, train_part, test_part, classes)


_LAYOUT = {
    "folder": "a folder holds class/name.png, or train/class/name.png and test/class/name.png",
    "table": "a table has the columns path, label and, if wanted, split",
}


# What folders of a split are called, in lower case, and the part that they are.
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
}


def _folder(root: Path) -> list[Row]:
    if not root.is_dir():
        raise DataError(f"there is no folder {root}; {_LAYOUT['folder']}")
    rows: list[Row] = []
    others: list[Path] = []
    for top, split in _tops(root):
        for folder in _folders(top):
            files = {path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")}
            found = {path for path in files if path.suffix.lower() in SUFFIXES}
            others += files - found
            if not found:
                raise DataError(f"the class folder {folder} holds no image; add some or remove it")
            rows += [Row(path, path.relative_to(root).as_posix(), folder.name, split) for path in found]
    if others:
        log.warning("%s: passed over %d files that are no images, such as %s", root, len(others), min(others))
    return rows


def _tops(root: Path) -> list[tuple[Path, str | None]]:
    """The folders that hold class folders, each with its split: `root` alone, unless it holds folders of splits."""
    folders = _folders(root)
    named = [(folder, _SPLITS[folder.name.lower()]) for folder in folders if folder.name.lower() in _SPLITS]
    if not named:
        return [(root, None)]
    if len(named) == 1 < len(folders):
        inside = named[0][0].iterdir()
        if any(path.is_file() and path.suffix.lower() in SUFFIXES for path in inside):
            return [(root, None)]  # a class among others: CIFAR-100 has trains
    parts: dict[str, Path] = {}
    for folder, part in named:
        if part in parts:
            raise DataError(f"{parts[part]} and {folder} are both the {part} part; merge them")
        parts[part] = folder
    if "train" not in parts:
        raise DataError(f"{root} holds the split {named[0][0].name}, but no train; {_LAYOUT['folder']}")
    if "validation" in parts:
        name, train = parts["validation"].name, parts["train"].name
        cure = (
            f"merge it into {train} or remove it" if "test" in parts else f"rename it to test or merge it with {train}"
        )
        raise DataError(f"{root} holds the split {name}, but there are two parts only, train and test; {cure}")
    if "test" not in parts:
        raise DataError(
            f"{root} holds the split {parts['train'].name}, but no test; add test, or name the folder "
            f"{parts['train']} itself, of which about {TEST_SHARE:.0%} become the test part"
        )
    passed = [folder for folder in folders if folder not in parts.values()]
    if passed:
        log.warning("%s: passed over %s, which is neither train nor test", root, ", ".join(map(str, passed)))
    return [(parts["train"], "train"), (parts["test"], "test")]


def _folders(top: Path) -> list[Path]:
    return sorted(path for path in top.iterdir() if path.is_dir() and not path.name.startswith("."))


def _table(path: Path) -> list[Row]:
    if not path.is_file():
        raise DataError(f"there is no table {path}; {_LAYOUT['table']}")
    columns, records = _records(path)
    for column in ("path", "label"):
        if column not in columns:
            raise DataError(f"{path} has no column {column!r}, only {', '.join(columns) or 'none'}; {_LAYOUT['table']}")
    for column in columns:
        if column not in ("path", "label", "split"):
            # Not passed over: a mistyped "split" would quietly get a split by hash.
            raise DataError(f"{path} has an unknown column {column!r}; remove it, as {_LAYOUT['table']}")
    rows: dict[str, Row] = {}
    for number, record in enumerate(records, 1):
        for column in columns:
            if record.get(column) in (None, ""):
                raise DataError(f"{path}: example {number} has nothing in column {column!r}")
        name = PurePosixPath(str(record["path"])).as_posix()
        split = str(record["split"]) if "split" in columns else None
        if split not in (None, "train", "test"):
            raise DataError(f"{path}: example {number} has {split!r} in column 'split', not train or test")
        if name in rows:
            raise DataError(f"{path}: example {number} in column 'path' names {name} a second time")
        rows[name] = Row(path.parent / name, name, str(record["label"]), split)
    return list(rows.values())


def _records(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Column names and one dict an example; an absent value is None."""
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet as parquet  # late: not everybody brings a parquet file

            table = parquet.read_table(path)
            return list(table.column_names), table.to_pylist()
        if path.suffix == ".csv":
            with path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file, restkey="(beyond the last column)", strict=True)
                columns, records = list(reader.fieldnames or []), list(reader)
            if any("(beyond the last column)" in record for record in records):
                raise ValueError("a line has more values than the first line has columns")
            return columns, records
    except (OSError, ValueError, csv.Error) as error:  # pyarrow's errors are ValueErrors or OSErrors
        raise DataError(f"the table {path} cannot be read: {reason(error)}") from error
    raise DataError(f"the table {path} must end with .csv or .parquet, not {path.suffix or 'nothing'!r}")


def _by_number(labels: Iterable[str]) -> Any:
    """A sort key for class names: 2 before 10 where every name is a number."""
    if all(label.isascii() and label.isdigit() for label in labels):
        return lambda label: (int(label), label)
    return lambda label: label


def _is_test(rows: list[Row]) -> npt.NDArray[np.bool_]:
    """Which of `rows` are test examples, bool [n]."""
    if rows[0].split is not None:
        return np.array([row.split == "test" for row in rows])
    digests = (hashlib.sha256(row.name.encode("utf-8", "surrogateescape")).digest() for row in rows)
    share = np.array([int.from_bytes(digest[:8], "big") / 2**64 for digest in digests])
    # The least one too: a handful of images also has a test part.
    chosen: npt.NDArray[np.bool_] = (share < TEST_SHARE) | (share == share.min())
    return chosen


def _read(rows: list[Row]) -> npt.NDArray[np.uint8]:
    """The images of `rows`, uint8 [n, channels, height, width]."""
    modes, sizes = zip(*(_look(row.path) for row in rows), strict=True)
    for row, size in zip(rows, sizes, strict=True):
        if size != sizes[0]:
            raise DataError(
                f"images differ in size: {rows[0].path} is {sizes[0][0]} x {sizes[0][1]}, {row.path} is "
                f"{size[0]} x {size[1]} (width x height); save them all in one size first, for example with "
                "Pillow's Image.resize"
            )
    mode = "L" if GREY.issuperset(modes) else "RGB"
    width, height = sizes[0]
    images = np.empty((len(rows), 1 if mode == "L" else 3, height, width), dtype=np.uint8)
    for into, row in zip(images, rows, strict=True):
        with _opened(row.path) as image:
            pixels = np.asarray(image.convert(mode))
        into[:] = pixels[None] if mode == "L" else pixels.transpose(2, 0, 1)
    return images


def _look(path: Path) -> tuple[str, tuple[int, int]]:
    """Mode and (width, height) from the file's header alone."""
    with _opened(path) as image:
        mode, size = image.mode, image.size
    if mode.startswith(DEEP):
        raise DataError(f"the image {path} has more than 8 bits a channel (mode {mode}); save it with 8")
    return mode, size


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except Exception as error:  # a damaged file makes Pillow's decoders raise nearly anything
        raise DataError(f"the image {path} cannot be read: {reason(error)}; mend it or leave it out") from error
