"""What a folder and a table of the user's images have in common: rows, the names of splits, texts as they are kept."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path

TEST_SHARE = 0.1
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
