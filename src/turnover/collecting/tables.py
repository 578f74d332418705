"""Tables (csv, tsv, jsonl, parquet) of images: cells as other programs write them, labels as classes."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from numbers import Real
from pathlib import Path, PurePosixPath
from typing import Any

from turnover.collecting.rows import LAYOUT, SPLITS, Row, is_numbers, plain
from turnover.errors import DataError, reason

# How pandas and others write "nothing" into text. "NA" and "None" may be words.
NOTHING = frozenset({"", "nan", "NaN", "<NA>", "NaT"})
KINDS = (".csv", ".tsv", ".jsonl", ".parquet")
# What the columns are called elsewhere, in lower case, the likeliest first. Where others are refused, only the first.
SYNONYMS = {
    "path": ("path", "image_path", "file_path", "filepath", "file_name", "filename", "file", "image"),
    "label": ("label", "class", "class_name", "category", "target", "y", "label_name"),
    "split": ("split", "subset", "partition"),
}


def table_rows(path: Path, *, columns: Mapping[str, str] | None = None, strict: bool = False) -> list[Row]:
    """The examples of a table, in its order; relative paths begin at the table's folder.

    Args:
        path: a csv file (separated by commas, semicolons or tabs), tsv, jsonl or parquet.
        columns: what the columns "path", "label" and "split" are called, where it is not one of `SYNONYMS`.
        strict: refuse synonyms, further columns, and other splits than train and test.

    Raises:
        DataError: names the example and the column at fault.
        OSError: the table cannot be read.
    """
    if not path.is_file():
        raise DataError(f"there is no table {path}; {LAYOUT['table']}")
    names, records = table_columns(path)
    places = _strict_columns(names, path) if strict else _columns(names, path, columns or {})
    examples = [
        {
            column: _text(record[place], f"{path}: example {number}", column, names[place])
            for column, place in places.items()
        }
        for number, record in enumerate(records, 1)
    ]
    labels = one_spelling(example["label"] for example in examples)
    rows: list[Row] = []
    seen: set[str] = set()
    for number, (example, label) in enumerate(zip(examples, labels, strict=True), 1):
        name = PurePosixPath(example["path"]).as_posix()
        split = SPLITS.get(example["split"].lower()) if "split" in example else None
        if "split" in example and split not in (("train", "test") if strict else ("train", "validation", "test")):
            given, column = example["split"], names[places["split"]]
            raise DataError(f"{path}: example {number} has {given!r} in column {column!r}, not train or test")
        same = os.path.normpath(path.parent / name)  # lexically: two links to one file may be two examples
        if same in seen:
            column = names[places["path"]]
            raise DataError(f"{path}: example {number} in column {column!r} names {name} a second time")
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


def _text(value: Any, where: str, kind: str, column: str) -> str:
    """A cell as text. Raises `DataError` where it holds nothing, or several values."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    if isinstance(value, str):
        text = plain(value) if kind == "label" else value.strip()
    elif value is None or isinstance(value, bool | int):
        text = "" if value is None else str(value)
    elif isinstance(value, Real | Decimal):
        text = f"{Decimal(str(value)):f}" if math.isfinite(value) else "nan"
    else:
        raise DataError(f"{where} has a {type(value).__name__} in column {column!r}, not one text or number")
    if text in NOTHING:
        raise DataError(f"{where} has nothing in column {column!r}{f' ({text})' if text else ''}")
    return text


def table_columns(path: Path) -> tuple[list[str], list[Sequence[Any]]]:
    """The names of the columns, without spaces around them, and the values of each example; an absent one is None.

    Raises:
        DataError: the table cannot be read.
    """
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise DataError(
            f"the table {path} must end with .csv, .tsv, .jsonl or .parquet, not {path.suffix or 'nothing'!r}"
        )
    try:
        names, records = {".parquet": _parquet, ".jsonl": _json_lines}.get(kind, _separated)(path)
    except DataError:
        raise
    except (OSError, ValueError, csv.Error) as error:  # pyarrow's errors are ValueErrors or OSErrors
        raise DataError(f"the table {path} cannot be read: {reason(error)}") from error
    return [name.strip() for name in names], records


def _parquet(path: Path) -> tuple[list[str], list[Sequence[Any]]]:
    try:
        import pyarrow.parquet as parquet  # late: not everybody brings a parquet file
    except ImportError as error:
        raise DataError(f"to read {path}, pyarrow must be installed; install it or write the table as csv") from error
    table = parquet.read_table(path)
    return table.column_names, list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def _json_lines(path: Path) -> tuple[list[str], list[Sequence[Any]]]:
    with path.open(encoding="utf-8-sig") as file:
        records = [json.loads(line) for line in file if line.strip()]
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict):
            raise ValueError(f"example {number} is no JSON object")
    names = list(dict.fromkeys(name for record in records for name in record))
    return names, [[record.get(name) for name in names] for record in records]


def _separated(path: Path) -> tuple[list[str], list[Sequence[Any]]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        separator = "\t" if path.suffix.lower() == ".tsv" else _separator(file.readline())
        file.seek(0)
        # A space before a quotation mark would make it a part of the value.
        lines = csv.reader(file, delimiter=separator, strict=True, skipinitialspace=True)
        names = next(lines, [])
        records: list[Sequence[Any]] = [line + [None] * (len(names) - len(line)) for line in lines if line]
    if any(len(record) > len(names) for record in records):
        raise ValueError("a line has more values than the first line has columns")
    return names, records


def _separator(header: str) -> str:
    """What separates the names in the first line; spreadsheets of half of Europe write semicolons."""
    return max((",", ";", "\t"), key=lambda mark: len(next(csv.reader([header], delimiter=mark), [])))


def _columns(names: Sequence[str], path: Path, chosen: Mapping[str, str]) -> dict[str, int]:
    """Where the columns are: "path", "label" and, if there is one, "split" -> place. Raises `DataError`."""
    lower = [name.lower() for name in names]
    places: dict[str, int] = {}
    for column, synonyms in SYNONYMS.items():
        wanted = (chosen[column].strip().lower(),) if column in chosen else synonyms
        found = next((name for name in wanted if name in lower), None)
        if found is not None:
            if lower.count(found) > 1:
                raise DataError(f"{path} has the column {found!r} twice; remove one")
            places[column] = lower.index(found)
        elif column != "split" or column in chosen:
            called = f"called {chosen[column]!r}" if column in chosen else f"of {column}s"
            raise DataError(f"{path} has no column {called}, only {', '.join(names) or 'none'}; say which it is")
    return places


def _strict_columns(names: Sequence[str], path: Path) -> dict[str, int]:
    """As `_columns`, for those named in `LAYOUT` and no others. Raises `DataError`."""
    columns = [name.lower() for name in names]
    for column in ("path", "label"):
        if column not in columns:
            raise DataError(f"{path} has no column {column!r}, only {', '.join(names) or 'none'}; {LAYOUT['table']}")
    for column, name in zip(columns, names, strict=True):
        if column not in SYNONYMS:
            # Not passed over: a mistyped "split" would quietly get a split by hash.
            raise DataError(f"{path} has an unknown column {name!r}; remove it, as {LAYOUT['table']}")
        if columns.count(column) > 1:
            raise DataError(f"{path} has the column {column!r} twice; remove one")
    return {column: place for place, column in enumerate(columns)}
