"""What a folder and a table of images have in common: rows, the names of splits, texts as they are kept."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from turnover.errors import DataError

LAYOUT = {
    "folder": "a folder holds class/name.png, or train/class/name.png and test/class/name.png",
    "table": "a table has the columns path, label and, if wanted, split",
}
# What splits are called, in lower case, and the part that they are.
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
}
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


@dataclass(frozen=True)
class Row:
    """One image: where it lies, its name (the relative path, with `/`), its class, its split if given."""

    path: Path
    name: str
    label: str
    split: str | None


def plain(label: str) -> str:
    """A label without what nobody sees: spaces around it, and the two ways in which Unicode spells an accent."""
    return unicodedata.normalize("NFC", writable(label)).strip()


def writable(text: str) -> str:
    """A file's name that is no valid UTF-8 could be written neither to json nor to parquet."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_numbers(labels: Iterable[str]) -> bool:
    """Whether all `labels` are numbers in decimal notation."""
    return all(NUMBER.fullmatch(label) for label in labels)


def class_names(labels: Iterable[str]) -> tuple[str, ...]:
    """The different `labels` in order: as numbers where every one is a number (2 before 10), else as text."""
    different = set(labels)
    key: Callable[[str], tuple[Decimal, str]] = lambda label: (Decimal(0), label)  # noqa: E731
    if is_numbers(different):
        key = lambda label: (Decimal(label), label)  # noqa: E731
    return tuple(sorted(different, key=key))


def check_inside(rows: Iterable[Row], root: Path, cure: str) -> None:
    """Raise `DataError` where a path of `rows`, links followed, leads out of the folder `root`; it ends with `cure`."""
    inside = os.path.realpath(root)
    known: dict[Path, bool] = {}  # parents: there are fewer of them, and following links costs
    strangers = []
    for row in rows:
        parent = row.path.parent
        if parent not in known:
            known[parent] = _within(os.path.realpath(parent), inside)
        linked = row.path.is_symlink() or row.path.name in ("", "..")
        if not known[parent] or (linked and not _within(os.path.realpath(row.path), inside)):
            strangers.append(row.name)
    if strangers:
        raise DataError(f"{len(strangers)} images lie outside of {root}, such as {min(strangers)}; {cure}")


def _within(path: str, folder: str) -> bool:
    return os.path.commonpath([path, folder]) == folder
