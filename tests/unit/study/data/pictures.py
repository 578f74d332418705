"""Pictures and tables of a user, and the sentence with which they are refused."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from study.data.sources.dataset import DataError, Dataset
from study.data.sources.fetching import fetch


def save(path: Path, value: int = 0, mode: str = "L", size: tuple[int, int] = (4, 3)) -> None:
    """A picture of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixel = value if mode in ("L", "I;16", "1") else (value, 0, 255 - value, 255)[: len(mode)]
    Image.new(mode, size, pixel).save(path)


def table(path: Path, rows: list[dict[str, object]]) -> str:
    """`rows` as the table `path`, and the dataset's name."""
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return f"table:{path}"


def refusal(name: str, tmp_path: Path) -> str:
    """The one-sentence error that `name` gives; nothing may be left behind."""
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    with pytest.raises(DataError) as caught:
        fetch(name, out / "set")
    assert list(out.iterdir()) == []
    return str(caught.value)


def by_name(dataset: Dataset) -> dict[str, tuple[np.ndarray, str]]:
    """The pixels [channels, height, width] and the class of every example, by its name."""
    found = {}
    for part in (dataset.train, dataset.test):
        assert part.names is not None
        for image, label, name in zip(part.images, part.labels, part.names, strict=True):
            found[name] = image, dataset.classes[label]
    return found
