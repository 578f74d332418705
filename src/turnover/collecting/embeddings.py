"""Embeddings on a disk: a matrix of features with labels, in npy, npz or parquet files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from turnover.collecting.rows import SPLITS, plain
from turnover.collecting.tables import NOTHING, SYNONYMS, table_columns
from turnover.errors import DataError, reason

SUFFIXES = (".npy", ".npz", ".parquet")
# What arrays and columns are called, in lower case, the likeliest first.
FEATURES = ("embeddings", "embedding", "features", "feature", "x", "vectors", "vector")
LABELS = (*SYNONYMS["label"], "labels", "classes", "targets")
IDS = ("id", "ids", *SYNONYMS["path"], "paths", "names", "name", "filenames")


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Features float32 [n, d], a label and a name for each, and perhaps splits."""

    features: npt.NDArray[np.float32]
    labels: tuple[str, ...]
    names: tuple[str, ...]
    splits: tuple[str, ...] | None = None

    @staticmethod
    def of(
        features: npt.NDArray[Any], labels: npt.NDArray[Any], ids: Any, place: str, splits: Any = None
    ) -> Embeddings:
        """Checked embeddings.

        Raises:
            DataError: shapes do not fit, a number is not finite, a label is missing, or a name is there twice.
        """
        if features.ndim != 2 or not features.shape[1] or features.dtype.kind not in "fiub":
            raise DataError(
                f"{place} holds {features.dtype} of shape {features.shape}, where embeddings are numbers of shape "
                "[examples, features]"
            )
        for what, values in (("labels", labels), ("ids", ids), ("splits", splits)):
            if values is not None and np.shape(values) != (len(features),):
                raise DataError(f"{place} has {len(features)} embeddings but {what} of shape {np.shape(values)}")
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
            found = np.require(features, np.float32, ["C", "W"])  # torch wants it so
        bad = np.flatnonzero(~np.isfinite(found).all(1))
        if len(bad):
            raise DataError(f"{place}: {len(bad)} embeddings hold NaN or infinite numbers, the first is {bad[0]}")
        texts = tuple(_text(value, f"{place}: example {number}") for number, value in enumerate(labels))
        names = tuple(str(number) for number in range(len(found))) if ids is None else tuple(map(str, ids))
        if len(set(names)) < len(names):
            raise DataError(f"{place} gives two examples the same id; give each its own")
        return Embeddings(found, texts, names, None if splits is None else _splits(splits, place))


def holds_embeddings(path: Path) -> bool:
    """Whether a parquet file holds embeddings and not paths of images."""
    parquet = _pyarrow(path)
    try:
        names = [name.strip().lower() for name in parquet.read_schema(path).names]
    except (OSError, ValueError) as error:
        raise DataError(f"the table {path} cannot be read: {reason(error)}") from error
    return any(name in FEATURES for name in names)


def read_embeddings(path: Path, labels: Path | None, columns: Mapping[str, str]) -> Embeddings:
    """The embeddings of a file.

    Args:
        path: npy, whose labels are in `labels` or in ``labels.npy`` beside; npz with arrays, or parquet with columns,
            called as in `FEATURES`, `LABELS` and `IDS`.
        labels: npy, or a table with one row an embedding.
        columns: what "label" and "path" (or ids) are called.

    Raises:
        DataError: one sentence about what is wrong.
        OSError: a file cannot be read.
    """
    kind = path.suffix.lower()
    if kind == ".npy":
        beside = path.with_name("labels.npy") if labels is None else labels
        if not beside.is_file():
            raise DataError(f"{path} holds no labels; name a file of them (--labels, or labels=), one an embedding")
        features = _loaded(path)
        return Embeddings.of(features, _labels_of(beside, columns), None, str(path))
    if labels is not None:
        raise DataError(f"{path} has labels of its own; leave --labels out")
    arrays: Mapping[str, Any]
    if kind == ".npz":
        with _loaded(path) as archive:
            try:
                arrays = {name: archive[name] for name in archive.files}
            except (ValueError, OSError) as error:
                raise DataError(f"{path} cannot be read: {reason(error)}") from error
    else:
        table = _pyarrow(path).read_table(path)
        arrays = {name: table.column(name) for name in table.column_names}
    lower = {name.strip().lower(): name for name in arrays}
    features = arrays[_one(lower, FEATURES, None, "embeddings", path)]
    of_labels = arrays[_one(lower, LABELS, columns.get("label"), "labels", path)]
    ids = next((arrays[lower[name]] for name in (columns.get("path", "").lower(), *IDS) if name in lower), None)
    splits = next((arrays[lower[name]] for name in SYNONYMS["split"] if name in lower), None)
    return Embeddings.of(
        _matrix(features, path), _plain_array(of_labels), _plain_array(ids), str(path), _plain_array(splits)
    )


def _labels_of(path: Path, columns: Mapping[str, str]) -> npt.NDArray[Any]:
    if path.suffix.lower() == ".npy":
        return np.asarray(_loaded(path))
    names, records = table_columns(path)
    lower = {name.lower(): name for name in names}
    place = 0 if len(names) == 1 else names.index(_one(lower, LABELS, columns.get("label"), "labels", path))
    values = np.empty(len(records), dtype=object)
    values[:] = [record[place] for record in records]
    return values


def _loaded(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        hint = "; it holds Python objects: save numbers or text" if "allow_pickle" in str(error) else ""
        raise DataError(f"{path} cannot be read: {reason(error)}{hint}") from error


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow.parquet as parquet  # late: not everybody brings a parquet file
    except ImportError as error:
        raise DataError(f"to read {path}, pyarrow must be installed; install it or write npz") from error
    return parquet


def _one(lower: Mapping[str, str], wanted: Sequence[str], chosen: str | None, what: str, path: Path) -> str:
    names = wanted if chosen is None else (chosen.strip().lower(),)
    for name in names:
        if name in lower:
            return lower[name]
    called = f"called {chosen!r}" if chosen is not None else f"of {what} (called {', '.join(wanted[:4])}, ...)"
    raise DataError(f"{path} has no array or column {called}, only {', '.join(lower.values()) or 'none'}")


def _matrix(column: Any, path: Path) -> npt.NDArray[Any]:
    """A column of lists, or an array, as one matrix."""
    if isinstance(column, np.ndarray):
        return column
    values = column.combine_chunks()
    try:
        flat = values.flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(len(values), -1)  # type: ignore[no-any-return]
    except (AttributeError, ValueError) as error:
        raise DataError(f"{path}: the embeddings are no lists of one length: {reason(error)}") from error


def _plain_array(values: Any) -> Any:
    if values is None or isinstance(values, np.ndarray):
        return values
    found = np.empty(len(values), dtype=object)
    found[:] = values.to_pylist()
    return found


def _text(value: Any, where: str) -> str:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    text = "" if value is None else plain(str(value))
    if text in NOTHING:
        raise DataError(f"{where} has no label{f' ({text})' if text else ''}")
    return text


def _splits(values: Any, place: str) -> tuple[str, ...]:
    found = []
    for number, value in enumerate(values):
        split = SPLITS.get(str(value).strip().lower())
        if split is None:
            raise DataError(f"{place}: example {number} is in the split {str(value)!r}, not train, validation or test")
        found.append(split)
    return tuple(found)
