"""Writing and reading the artefacts of the pipeline: never half-written, always the same bytes."""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # half a second that who writes no table need not wait for
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


def copy_file(source: Path, path: Path) -> None:
    """A copy of a file; whole, or not there."""
    with writing(path) as beside:
        shutil.copyfile(source, beside)


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


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Named arrays, the same bytes for the same arrays, on the disk before it gets its name."""
    with writing(path) as beside, beside.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """What `write_npz` wrote.

    Raises:
        OSError: it is missing, or cannot be read.
        ValueError: a byte that matters is not the one that was written; the message says in a few words how it shows.
    """
    data = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            count = int.from_bytes(data[-12:-10], "little")  # of arrays: zipfile goes by the list, even a shortened one
            broken = archive.testzip()  # reads all: numpy would stop where a damaged header says that an array ends
            if broken is not None or count != len(archive.namelist()):
                raise ValueError(f"{broken or 'the list of its arrays'} is not what was written")
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes make zipfile and numpy raise nearly anything
        raise ValueError(str(error) or type(error).__name__) from error


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
