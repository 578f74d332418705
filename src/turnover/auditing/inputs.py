"""What lies at a path: images in class folders or listed by a table, or embeddings; looked at before all else."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from turnover.auditing.saved import is_saved, read_saved
from turnover.collecting.embeddings import SUFFIXES, Embeddings, holds_embeddings, read_embeddings
from turnover.collecting.folders import folder_rows
from turnover.collecting.rows import Row, check_inside, class_names, writable
from turnover.collecting.tables import KINDS, one_spelling, table_rows
from turnover.errors import DataError, reason

_OUTSIDE = "copy them into it, or allow it (--outside, or outside=True)"
_FEW = 5  # a class with fewer examples is named


@dataclass(frozen=True, eq=False)
class Inputs:
    """Labelled examples, of which only embeddings are read yet.

    Attributes:
        place: the path, or what stands for data in memory.
        names: of the examples: paths relative to the folder or table, or the ids of embeddings; each once.
        labels: int64 [n], places in `classes`.
        classes: names of the classes, in order.
        splits: "train", "test" or "validation" of each example; None where no split is given.
        rows: of images; empty for embeddings.
        embeddings: float32 [n, d]; None for images.
        notices: what the user should hear about the data.
    """

    place: str
    names: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    splits: tuple[str, ...] | None = None
    rows: tuple[Row, ...] = ()
    embeddings: npt.NDArray[np.float32] | None = None
    notices: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)


@dataclass
class _Heard(logging.Handler):
    """Keeps what the readers warn of."""

    messages: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())

    __hash__ = object.__hash__


def look(
    path: Path, *, columns: Mapping[str, str] | None = None, labels: Path | None = None, outside: bool = False
) -> Inputs:
    """What lies at `path`.

    Args:
        path: a folder of class folders, or one that Hugging Face's `datasets` saved; a table (csv, tsv, jsonl, parquet)
            of paths and labels; or embeddings (npy, npz, parquet).
        columns: what the columns "path", "label" and "split" of a table are called.
        labels: a file of labels, one for each embedding of an npy file.
        outside: images may lie outside of the folder, or of the table's folder.

    Raises:
        DataError: one sentence: what is wrong, where, and what to do.
    """
    heard = _Heard()
    log = logging.getLogger("turnover.collecting")
    log.addHandler(heard)
    propagate, log.propagate = log.propagate, False
    try:
        if not path.exists():
            raise DataError(f"there is nothing at {path}; name a folder of class folders, a table or embeddings")
        kind = path.suffix.lower()
        if path.is_dir():
            found = read_saved(path, columns or {}) if is_saved(path) else folder_rows(path)
            if isinstance(found, Embeddings):
                return _of_embeddings(path, found, heard.messages)
            rows, inside = found, path
        elif kind in SUFFIXES and (kind != ".parquet" or holds_embeddings(path)):
            return _of_embeddings(path, read_embeddings(path, labels, columns or {}))
        elif kind in KINDS:
            rows, inside = table_rows(path, columns=columns), path.parent
        else:
            raise DataError(f"{path} is no folder, no table {KINDS} and no file of embeddings {SUFFIXES}")
        if labels is not None:
            raise DataError(f"labels belong to embeddings, and {path} holds images with labels of its own")
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be read: {reason(error)}") from error
    finally:
        log.removeHandler(heard)
        log.propagate = propagate
    if not outside:
        check_inside(rows, inside, _OUTSIDE)
    rows.sort(key=lambda row: row.name)
    if not rows:
        raise DataError(f"{path} holds no image in a class folder, such as {path / 'cat' / '1.png'}")
    splits = tuple(row.split or "" for row in rows)
    numbers, classes = _numbered([row.label for row in rows], str(path))
    return Inputs(
        str(path),
        tuple(writable(row.name) for row in rows),
        numbers,
        classes,
        splits if any(splits) else None,
        tuple(rows),
        notices=(*heard.messages, *_about(numbers, classes)),
    )


def in_memory(features: Any, labels: Any, ids: Any = None) -> Inputs:
    """Embeddings [n, d] and labels [n] of any type, with names if there are any.

    Raises:
        DataError: shapes do not fit, or a number is not finite.
    """
    found = Embeddings.of(np.asarray(features), np.asarray(labels), None if ids is None else np.asarray(ids), "data")
    return _of_embeddings(Path("data in memory"), found)


def _of_embeddings(path: Path, found: Embeddings, heard: Sequence[str] = ()) -> Inputs:
    numbers, classes = _numbered(list(found.labels), str(path))
    notices = (*heard, *_about(numbers, classes))
    return Inputs(str(path), found.names, numbers, classes, found.splits, embeddings=found.features, notices=notices)


def _numbered(labels: list[str], place: str) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    if not labels:
        raise DataError(f"{place} holds no example")
    labels = one_spelling(labels)
    classes = class_names(labels)
    if len(classes) < 2:
        raise DataError(f"{place} holds one class only, {classes[0]!r}: there is nothing to confuse it with")
    if len(classes) > len(labels) // 2:
        raise DataError(
            f"{place} holds {len(classes)} classes for {len(labels)} examples, hardly two for each: is this the column "
            "of labels?"
        )
    index = {label: number for number, label in enumerate(classes)}
    return np.array([index[label] for label in labels], dtype=np.int64), classes


def _about(labels: npt.NDArray[np.int64], classes: tuple[str, ...]) -> list[str]:
    """Notices about the classes: names that are nearly one, and classes with few examples."""
    notices = []
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault("".join(name.casefold().split()), []).append(name)
    for names in alike.values():
        if len(names) > 1:
            shown = " and ".join(repr(name) for name in names)
            notices.append(f"the classes {shown} differ in letter case or spaces only; they are audited as different")
    counts = np.bincount(labels, minlength=len(classes))
    few = [classes[number] for number in np.flatnonzero(counts < _FEW)]
    if few:
        shown = ", ".join(repr(name) for name in few[:5]) + (", ..." if len(few) > 5 else "")
        notices.append(
            f"{len(few)} classes have fewer than {_FEW} examples ({shown}); little can be said of their labels"
        )
    return notices
