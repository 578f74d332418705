"""The user's own images: a folder of class folders, or a table (csv, parquet) of path, label and split."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import numpy as np
import numpy.typing as npt

from study.data.sources.dataset import Dataset, LabelledImages
from turnover.collecting.decoding import read_images
from turnover.collecting.folders import folder_rows, split_folders
from turnover.collecting.rows import LAYOUT, Row, check_inside, class_names, writable
from turnover.collecting.tables import table_rows
from turnover.errors import DataError, reason

TEST_SHARE = 0.1


def own_dataset(name: str) -> Dataset:
    """The dataset `folder:PATH`, `table:PATH` or `table-outside:PATH`, examples in the order of their names.

    The images of `table:PATH` lie in the table's folder: whoever takes a table from somebody else reads no file of
    their own that it may name. Those of `table-outside:PATH` lie anywhere.
    Grey images give one channel; if any is coloured, all become RGB. Where no split is given, about 10 % of
    the examples are the test part, chosen by a hash of their name: adding images moves no other image.
    Both parts have names: the files' paths relative to the folder, or as the table has them.
    Raises `DataError` that names the file or column at fault.
    """
    kind, _, place = name.partition(":")
    if not place:
        raise DataError(f"dataset {name!r} names no place; write {kind}:PATH")
    path = Path(place).expanduser()
    layout = LAYOUT["folder" if kind == "folder" else "table"]
    try:
        found = _two_parts(path) if kind == "folder" else table_rows(path, strict=True)
        rows = sorted(found, key=lambda row: row.name)
        if kind == "table":
            check_inside(rows, path.parent, f"copy them into it, or allow it by data.dataset table-outside:{place}")
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be read: {reason(error)}") from error
    if not rows:
        raise DataError(f"{path} holds no image; {layout}")
    classes = class_names(row.label for row in rows)
    if len(classes) < 2:
        raise DataError(f"{path} holds one class only, {classes[0]!r}, not two or more; {layout}")
    test = _is_test(rows)
    trained = {row.label for row in itertools.compress(rows, ~test)}
    for label in classes:
        if label not in trained:
            raise DataError(f"{path}: class {label!r} has no training image; add some, or give the split")
    if not test.any():
        raise DataError(f"{path}: no image is in the test split; give it one, or give no split at all")
    images = read_images(rows)
    index = {label: number for number, label in enumerate(classes)}
    labels = np.array([index[row.label] for row in rows], dtype=np.int64)
    names = [writable(row.name) for row in rows]
    train_part, test_part = (
        LabelledImages(images[part], labels[part], tuple(itertools.compress(names, part))) for part in (~test, test)
    )
    return Dataset(name, train_part, test_part, classes)


def _two_parts(root: Path) -> list[Row]:
    """The images in the class folders of `root`, where splits, if it has any, are train and test."""
    parts = split_folders(root) if root.is_dir() else {}
    if not parts:
        return folder_rows(root)
    first = next(iter(parts.values())).name
    if "train" not in parts:
        raise DataError(f"{root} holds the split {first}, but no train; {LAYOUT['folder']}")
    train = parts["train"].name
    if "validation" in parts:
        name = parts["validation"].name
        cure = (
            f"merge it into {train} or remove it" if "test" in parts else f"rename it to test or merge it with {train}"
        )
        raise DataError(f"{root} holds the split {name}, but there are two parts only, train and test; {cure}")
    if "test" not in parts:
        raise DataError(
            f"{root} holds the split {train}, but no test; add test, or name the folder "
            f"{parts['train']} itself, of which about {TEST_SHARE:.0%} become the test part"
        )
    return folder_rows(root)


def _is_test(rows: list[Row]) -> npt.NDArray[np.bool_]:
    """Which of `rows` are test examples, bool [n]."""
    if rows[0].split is not None:
        return np.array([row.split == "test" for row in rows])
    digests = (hashlib.sha256(row.name.encode("utf-8", "surrogateescape")).digest() for row in rows)
    share = np.array([int.from_bytes(digest[:8], "big") / 2**64 for digest in digests])
    # The least one too: a handful of images also has a test part.
    chosen: npt.NDArray[np.bool_] = (share < TEST_SHARE) | (share == share.min())
    return chosen
