"""What Hugging Face's `datasets` wrote with ``save_to_disk``: images with labels, or embeddings with labels."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from turnover.collecting.embeddings import FEATURES, LABELS, Embeddings
from turnover.collecting.rows import SPLITS, Row, plain
from turnover.collecting.tables import NOTHING
from turnover.errors import DataError, reason

log = logging.getLogger("turnover.collecting")
_BLOCK = 10_000  # embeddings that are Python lists at once


@dataclass(frozen=True)
class StoredRow(Row):
    """An image whose file lies in a table: `content` gives its bytes, to several threads as well."""

    content: Callable[[], bytes]


def content_of(row: Row) -> bytes | None:
    """The bytes of an image's file where they lie in a table; None where `row.path` is the file."""
    return row.content() if isinstance(row, StoredRow) else None


def is_saved(folder: Path) -> bool:
    """Whether a folder is one of `datasets`, and not of class folders."""
    return (folder / "dataset_dict.json").is_file() or all(
        (folder / name).is_file() for name in ("state.json", "dataset_info.json")
    )


def read_saved(folder: Path, columns: Mapping[str, str]) -> list[Row] | Embeddings:
    """The images of a saved data set as rows, or its embeddings.

    Examples are named by their places, such as ``train/17``, or ``17`` where there are no splits. Those whose label is
    -1, which is how `datasets` says that nobody knows it, are passed over.

    Args:
        folder: what `save_to_disk` wrote, of one data set or of several splits.
        columns: what the columns "path" (of images or embeddings) and "label" are called, if it is not clear.

    Raises:
        DataError: one sentence: what is wrong, and what to do.
    """
    parts = _parts(folder)
    first = next(iter(parts.values()))
    column, is_image = _data_column(first, folder, columns.get("path"))
    label = _one(first, LABELS, columns.get("label"), "labels", folder)
    names: list[str] = []
    labels: list[str] = []
    splits: list[str | None] = []
    rows: list[Row] = []
    blocks: list[np.ndarray[Any, Any]] = []
    for split, part in parts.items():
        if not {column, label} <= set(part.column_names):
            raise DataError(f"{folder}: the split {split} has no columns {column!r} and {label!r}, as others have")
        places, texts = _labels(part, label, f"{folder}: {'' if split is None else split + ' '}example")
        named = [str(place) if split is None else f"{split}/{place}" for place in places]
        names += named
        labels += texts
        splits += [None if split is None else SPLITS[split.lower()]] * len(places)
        if is_image:
            rows += _rows(part, column, places, named, texts, splits[-1] if places else None, folder)
        else:
            blocks += _features(part.select(places), column, folder)
    if is_image:
        return rows
    return Embeddings.of(
        np.concatenate(blocks), np.array(labels, object), names, str(folder), None if None in splits else splits
    )


def _parts(folder: Path) -> dict[str | None, Any]:
    """The data sets of a folder by the names of their splits; one alone has none."""
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f"to read {folder}, which Hugging Face's datasets wrote, that must be installed (pip install datasets): "
            f"{reason(error)}"
        ) from error
    try:
        found = datasets.load_from_disk(str(folder))
    except Exception as error:  # of arrow, json or the file system: its own errors have no common kind
        raise DataError(f"{folder} cannot be read: {reason(error)}; save it again with save_to_disk") from error
    if not isinstance(found, datasets.DatasetDict):
        return {None: found}
    other = [name for name in found if name.lower() not in SPLITS]
    if other:
        log.warning("%s: passed over the splits %s, which are neither train nor test", folder, ", ".join(other))
    parts: dict[str | None, Any] = {name: part for name, part in found.items() if name not in other}
    if not parts:
        raise DataError(f"{folder} holds the splits {', '.join(found)}, and none of train, validation and test")
    return parts


def _data_column(part: Any, folder: Path, chosen: str | None) -> tuple[str, bool]:
    """The column that holds what is audited, and whether that are images."""
    import datasets

    images = [name for name, feature in part.features.items() if isinstance(feature, datasets.Image)]
    if chosen is not None:
        name = _one(part, (), chosen, "images", folder)
        return name, name in images
    if len(images) > 1:
        raise DataError(f"{folder} has several columns of images, {', '.join(images)}; name one (--path-column)")
    if images:
        return images[0], True
    return _one(part, FEATURES, None, "images or embeddings", folder), False


def _one(part: Any, wanted: Sequence[str], chosen: str | None, what: str, folder: Path) -> str:
    lower: dict[str, str] = {name.strip().lower(): name for name in part.column_names}
    for name in wanted if chosen is None else (chosen.strip().lower(),):
        if name in lower:
            return lower[name]
    called = f"called {chosen!r}" if chosen is not None else f"of {what} (called {', '.join(wanted[:4])}, ...)"
    raise DataError(f"{folder} has no column {called}, only {', '.join(lower.values()) or 'none'}; say which it is")


def _labels(part: Any, column: str, where: str) -> tuple[list[int], list[str]]:
    """Places of the examples whose labels are known, and these as text."""
    names = getattr(part.features[column], "names", None)
    places, texts = [], []
    for place, value in enumerate(part.with_format(None)[column]):
        if names is not None and value == -1:
            continue
        if isinstance(value, list | dict):
            raise DataError(f"{where} {place} has a {type(value).__name__} in column {column!r}, not one label")
        text = "" if value is None else plain(str(value if names is None else names[value]))
        if text in NOTHING:
            raise DataError(f"{where} {place} has no label{f' ({text})' if text else ''}")
        places.append(place)
        texts.append(text)
    if len(places) < len(part):
        log.warning("passed over %d examples without a label (-1)", len(part) - len(places))
    return places, texts


def _rows(
    part: Any, column: str, places: list[int], names: list[str], labels: list[str], split: str | None, folder: Path
) -> list[Row]:
    import datasets

    files = part.select_columns(column).cast_column(column, datasets.Image(decode=False)).with_format(None)
    lock = threading.Lock()

    def content_of(place: int) -> Callable[[], bytes]:
        def content() -> bytes:
            with lock:
                return bytes(files[place][column]["bytes"])

        return content

    rows: list[Row] = []
    for place, name, label in zip(places, names, labels, strict=True):
        value = files[place][column]
        if value is None:
            raise DataError(f"{folder}: example {name} has no image; leave it out")
        if value["bytes"] is None:
            rows.append(Row(folder / value["path"], name, label, split))  # which an absolute path takes no part in
        else:
            rows.append(StoredRow(folder / name, name, label, split, content_of(place)))
    return rows


def _features(part: Any, column: str, folder: Path) -> list[np.ndarray[Any, Any]]:
    found = []
    for start in range(0, len(part), _BLOCK):
        values = part.with_format("numpy")[start : start + _BLOCK][column]
        matrix = np.asarray(values)
        if matrix.dtype == object or matrix.ndim != 2:
            raise DataError(f"{folder}: the embeddings in column {column!r} are no lists of one length")
        found.append(matrix)
    return found
