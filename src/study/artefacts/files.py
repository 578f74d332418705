"""Writing and reading the artefacts of the pipeline: never half-written, always the same bytes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write a file or a folder to; it gets its final name only if all went well."""
    beside = path.with_name(f".{path.name}.part")
    _remove(beside)
    try:
        yield beside
        _remove(path)
        os.replace(beside, path)
    finally:
        _remove(beside)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Readable JSON, floats as they are."""
    with writing(path) as beside:
        beside.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_csv(path: Path, frame: pd.DataFrame, digits: int = 6) -> None:
    """A table people may read: floats rounded to `digits` significant digits."""
    with writing(path) as beside:
        frame.to_csv(beside, index=False, float_format=f"%.{digits}g", lineterminator="\n")


def write_parquet(path: Path, frame: pd.DataFrame) -> None:
    with writing(path) as beside:
        frame.to_parquet(beside, index=False, compression="zstd")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
