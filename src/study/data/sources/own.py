"""The user's own data: a folder of class folders, a table (csv, parquet) of path, label and split, or embeddings."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from study.data.sources.dataset import Dataset, LabelledImages
from study.data.sources.features import as_pictures, read_features
from turnover.collecting.decoding import read_images
from turnover.collecting.embeddings import Embeddings
from turnover.collecting.folders import folder_rows, split_folders
from turnover.collecting.rows import LAYOUT, Row, check_inside, class_names, writable
from turnover.collecting.tables import one_spelling, table_rows
from turnover.errors import DataError, reason

TEST_SHARE = 0.1


def own_dataset(name: str) -> Dataset:
    """The dataset `folder:PATH`, `table:PATH`, `table-outside:PATH` or `features:PATH`.

    Images come in the order of their names, embeddings as they lie.
    The images of `table:PATH` lie in the table's folder: whoever takes a table from somebody else reads no file of
    their own that it may name. Those of `table-outside:PATH` lie anywhere.
    Grey images give one channel; if any is coloured, all become RGB. Embeddings become pictures (see `as_pictures`).
    Where no split is given, about 10 % of the examples are the test part, chosen by a hash of their name: adding
    examples moves no other one.
    Both parts have names: the files' paths relative to the folder, or as the table has them, or the embeddings' ids.
    Raises `DataError` that names the file or column at fault.
    """
    kind, _, place = name.partition(":")
    if not place:
        raise DataError(f"dataset {name!r} names no place; write {kind}:PATH")
    path = Path(place).expanduser()
    try:
        if kind == "features":
            return _of_features(name, path, read_features(path))
        found = _two_parts(path) if kind == "folder" else table_rows(path, strict=True)
        rows = sorted(found, key=lambda row: row.name)
        if kind == "table":
            check_inside(rows, path.parent, f"copy them into it, or allow it by data.dataset table-outside:{place}")
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be read: {reason(error)}") from error
    layout = LAYOUT["folder" if kind == "folder" else "table"]
    if not rows:
        raise DataError(f"{path} holds no image; {layout}")
    names = [row.name for row in rows]
    splits = None if rows[0].split is None else [row.split or "" for row in rows]
    labels, classes, test = _labelled(path, names, [row.label for row in rows], splits, layout)
    return _dataset(name, read_images(rows), labels, names, classes, test)


def _of_features(name: str, path: Path, found: Embeddings) -> Dataset:
    if not found.labels:
        raise DataError(f"{path} holds no example")
    if found.splits is not None and "validation" in found.splits:
        raise DataError(f"{path} has a validation split, but there are two parts only, train and test; call it test")
    layout = "embeddings have labels, and, if wanted, ids and a split, train or test, of each"
    given = one_spelling(found.labels)
    labels, classes, test = _labelled(path, found.names, given, found.splits, layout)
    return _dataset(name, as_pictures(found.features, ~test), labels, found.names, classes, test)


def _labelled(
    path: Path, names: Sequence[str], labels: Sequence[str], splits: Sequence[str] | None, layout: str
) -> tuple[npt.NDArray[np.int64], tuple[str, ...], npt.NDArray[np.bool_]]:
    """Labels as places in the classes, the classes, and which examples are of the test part; `DataError`."""
    classes = class_names(labels)
    if len(classes) < 2:
        raise DataError(f"{path} holds one class only, {classes[0]!r}, not two or more; {layout}")
    test = _is_test(names) if splits is None else np.array([split == "test" for split in splits])
    trained = set(itertools.compress(labels, ~test))
    for label in classes:
        if label not in trained:
            raise DataError(f"{path}: class {label!r} has no training example; add some, or give the split")
    if not test.any():
        raise DataError(f"{path}: nothing is in the test split; give it some, or give no split at all")
    index = {label: number for number, label in enumerate(classes)}
    return np.array([index[label] for label in labels], dtype=np.int64), classes, test


def _dataset(
    name: str,
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64],
    names: Sequence[str],
    classes: tuple[str, ...],
    test: npt.NDArray[np.bool_],
) -> Dataset:
    written = [writable(of) for of in names]
    train_part, test_part = (
        LabelledImages(images[part], labels[part], tuple(itertools.compress(written, part))) for part in (~test, test)
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


def _is_test(names: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which examples are of the test part, by their names, bool [n]."""
    digests = (hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest() for name in names)
    share = np.array([int.from_bytes(digest[:8], "big") / 2**64 for digest in digests])
    # The least one too: a handful of examples also has a test part.
    chosen: npt.NDArray[np.bool_] = (share < TEST_SHARE) | (share == share.min())
    return chosen
