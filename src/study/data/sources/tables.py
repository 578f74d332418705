"""Tables (csv, parquet) of the user's images: cells as other programs write them, labels as classes."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from numbers import Real
from pathlib import Path, PurePosixPath
from typing import Any

from study.data.sources.dataset import DataError, reason
from study.data.sources.rows import LAYOUT, SPLITS, Row, plain

NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
# How pandas and others write "nothing" into text. "NA" and "None" may be words.
NOTHING = frozenset({"", "nan", "NaN", "<NA>", "NaT"})


def table_rows(path: Path) -> list[Row]:
    """The examples of a table, in its order; relative paths begin at the table's folder.

    Raises:
        DataError: names the example and the column at fault.
        OSError: the table cannot be read.
    """
    if not path.is_file():
        raise DataError(f"there is no table {path}; {LAYOUT['table']}")
    columns, records = _records(path)
    examples = [
        {
            column: _text(value, f"{path}: example {number}", column)
            for column, value in zip(columns, record, strict=True)
        }
        for number, record in enumerate(records, 1)
    ]
    labels = one_spelling(example["label"] for example in examples)
    rows: list[Row] = []
    seen: set[str] = set()
    for number, (example, label) in enumerate(zip(examples, labels, strict=True), 1):
        name = PurePosixPath(example["path"]).as_posix()
        split = SPLITS.get(example["split"].lower(), "") if "split" in example else None
        if split not in (None, "train", "test"):
            raise DataError(f"{path}: example {number} has {example['split']!r} in column 'split', not train or test")
        same = os.path.normpath(path.parent / name)  # lexically: two links to one file may be two examples
        if same in seen:
            raise DataError(f"{path}: example {number} in column 'path' names {name} a second time")
        seen.add(same)
        rows.append(Row(path.parent / name, name, label, split))
    return rows


def one_spelling(labels: Iterable[str]) -> list[str]:
    """`labels`, where all are numbers or all are truth values, without what programs make of them: 2.0, TRUE."""
    labels = list(labels)
    if all(label.lower() in ("true", "false") for label in labels):
        return [label.capitalize() for label in labels]
    if is_numbers(labels):
        # The 0 is for -0.0. Text without a point stays as it is: 007 may be a name.
        return [f"{(Decimal(label) + 0).normalize():f}" if "." in label else label for label in labels]
    return labels


def is_numbers(labels: Iterable[str]) -> bool:
    """Whether all `labels` are numbers in decimal notation."""
    return all(NUMBER.fullmatch(label) for label in labels)


def _text(value: Any, where: str, column: str) -> str:
    """A cell as text. Raises `DataError` where it holds nothing, or several values."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    if isinstance(value, str):
        text = plain(value) if column == "label" else value.strip()
    elif value is None or isinstance(value, bool | int):
        text = "" if value is None else str(value)
    elif isinstance(value, Real | Decimal):
        text = f"{Decimal(str(value)):f}" if math.isfinite(value) else "nan"
    else:
        raise DataError(f"{where} has a {type(value).__name__} in column {column!r}, not one text or number")
    if text in NOTHING:
        raise DataError(f"{where} has nothing in column {column!r}{f' ({text})' if text else ''}")
    return text


def _records(path: Path) -> tuple[list[str], list[Sequence[Any]]]:
    """The columns of `LAYOUT`, and their values in each example; an absent one is None."""
    try:
        if path.suffix.lower() == ".parquet":
            import pyarrow.parquet as parquet  # late: not everybody brings a parquet file

            table = parquet.read_table(path)
            columns = _columns(table.column_names, path)
            return columns, list(zip(*(column.to_pylist() for column in table.columns), strict=True))
        if path.suffix.lower() == ".csv":
            with path.open(newline="", encoding="utf-8-sig") as file:
                # A space before a quotation mark would make it a part of the value.
                lines = csv.reader(file, strict=True, skipinitialspace=True)
                columns = _columns(next(lines, []), path)
                records: list[Sequence[Any]] = [line + [None] * (len(columns) - len(line)) for line in lines if line]
            if any(len(record) > len(columns) for record in records):
                raise ValueError("a line has more values than the first line has columns")
            return columns, records
    except DataError:
        raise
    except (OSError, ValueError, csv.Error) as error:  # pyarrow's errors are ValueErrors or OSErrors
        raise DataError(f"the table {path} cannot be read: {reason(error)}") from error
    raise DataError(f"the table {path} must end with .csv or .parquet, not {path.suffix or 'nothing'!r}")


def _columns(names: Sequence[str], path: Path) -> list[str]:
    """`names` in lower case, without spaces around them. Raises `DataError` where they are not those of `LAYOUT`."""
    columns = [name.strip().lower() for name in names]
    for column in ("path", "label"):
        if column not in columns:
            raise DataError(f"{path} has no column {column!r}, only {', '.join(names) or 'none'}; {LAYOUT['table']}")
    for column, name in zip(columns, names, strict=True):
        if column not in ("path", "label", "split"):
            # Not passed over: a mistyped "split" would quietly get a split by hash.
            raise DataError(f"{path} has an unknown column {name!r}; remove it, as {LAYOUT['table']}")
        if columns.count(column) > 1:
            raise DataError(f"{path} has the column {column!r} twice; remove one")
    return columns
