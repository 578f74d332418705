"""Embeddings as data of the pipeline: the same reader as the audit's, and pictures whose pixels are the features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from study.context.params import ParamsError, check_params
from study.data.sources.dataset import load
from study.data.sources.features import SPAN, as_pictures
from study.data.sources.fetching import fetch
from tests.unit.study.context.test_params import with_value
from tests.unit.study.data.pictures import refusal
from turnover.auditing.inputs import look

LABELS = np.array(["dog", "cat"] * 20)


def values(count: int = 40, width: int = 7) -> np.ndarray:
    scales = 10.0 ** np.arange(-3, width - 3)
    return (np.random.default_rng(0).normal(size=(count, width)) * scales + scales).astype(np.float32)


def saved(path: Path, **columns: Any) -> str:
    if path.suffix == ".npz":
        np.savez(path, **columns)
    elif path.suffix == ".parquet":
        lists = {name: list(map(list, of)) if np.ndim(of) == 2 else list(of) for name, of in columns.items()}
        pyarrow.parquet.write_table(pyarrow.table(lists), path)
    else:
        np.save(path, columns["embeddings"])
        np.save(path.with_name("labels.npy"), columns["labels"])
    return f"features:{path}"


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet"])
def test_a_file_becomes_pictures(tmp_path: Path, suffix: str) -> None:
    x = values()
    dataset = load(fetch(saved(tmp_path / f"x{suffix}", embeddings=x, labels=LABELS), tmp_path / "set"))
    assert dataset.classes == ("cat", "dog")
    assert dataset.train.images.shape[1:] == (1, 3, 3) and len(dataset.train) + len(dataset.test) == 40
    assert 1 <= len(dataset.test) <= 10
    for part in (dataset.train, dataset.test):
        assert part.names is not None
        rows = np.array([int(name) for name in part.names])
        assert (np.diff(rows) > 0).all()
        assert (part.labels == (LABELS[rows] == "dog")).all()
        pixels = part.images.reshape(len(rows), 9).astype(float)
        assert (pixels[:, 7:] == 128).all(), "two pixels are left over"
        trained = x[[int(name) for name in dataset.train.names or ()]].astype(np.float64)
        back = (pixels[:, :7] - 128) * SPAN / 127 * trained.std(0) + trained.mean(0)
        inside = np.abs(x[rows] - trained.mean(0)) <= SPAN * trained.std(0)
        assert (np.abs(back - x[rows]) / trained.std(0))[inside].max() <= SPAN / 127 / 2 + 1e-5


def test_labels_are_spelled_as_the_audit_spells_them(tmp_path: Path) -> None:
    numbers = np.array([2.0, 10.0] * 20)
    place = saved(tmp_path / "x.npz", embeddings=values(), labels=numbers)
    assert load(fetch(place, tmp_path / "set")).classes == look(tmp_path / "x.npz").classes == ("2", "10")


def test_ids_and_splits_are_kept(tmp_path: Path) -> None:
    ids, split = [f"é/{n}" for n in range(40)], ["train"] * 30 + ["Test"] * 10
    place = saved(tmp_path / "x.parquet", features=values(), label=LABELS, id=ids, split=split)
    dataset = load(fetch(place, tmp_path / "set"))
    assert dataset.train.names == tuple(ids[:30]) and dataset.test.names == tuple(ids[30:])


@given(
    arrays.arrays(np.float32, (6, 5), elements=st.floats(-(2.0**60), 2.0**60, width=32)),
    st.integers(1, 6),
)
def test_any_numbers_give_pictures_in_their_order(x: np.ndarray, trained: int) -> None:
    pictures = as_pictures(x, np.arange(6) < trained).reshape(6, -1)[:, :5].astype(int)
    for column, levels in zip(x.T, pictures.T, strict=True):
        assert (np.diff(levels[np.argsort(column, kind="stable")]) >= 0).all()
    same = as_pictures(np.repeat(x[:1], 6, 0), np.arange(6) < trained)
    assert (same == 128).all(), "a constant feature says nothing"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"embeddings": values(), "labels": np.array(["cat"] * 40)}, "holds one class only, 'cat'"),
        ({"embeddings": np.full((40, 3), np.nan), "labels": LABELS}, "40 embeddings hold NaN or infinite numbers"),
        ({"embeddings": values(), "labels": LABELS[:39]}, "has 40 embeddings but labels of shape (39,)"),
        ({"embeddings": values(0), "labels": LABELS[:0]}, "holds no example"),
        ({"embeddings": values(), "labels": LABELS, "split": ["train", "val"] * 20}, "has a validation split"),
        ({"embeddings": values(), "labels": LABELS, "split": ["train"] * 40}, "nothing is in the test split"),
        ({"embeddings": values(), "labels": LABELS, "split": ["train", "test"] * 20}, "class 'cat' has no training"),
        ({"pixels": values(), "labels": LABELS}, "has no array or column of embeddings"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_one_sentence(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    assert message in refusal(saved(tmp_path / "x.npz", **columns), tmp_path)


def test_no_file_of_embeddings(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    for name in ("x.csv", "nothing.npz", "."):
        assert "is no file of embeddings (.npy, .npz, .parquet)" in refusal(f"features:{tmp_path / name}", tmp_path)
    np.save(tmp_path / "y.npy", values())
    assert "holds no labels" in refusal(f"features:{tmp_path / 'y.npy'}", tmp_path)


def test_only_a_network_without_neighbourhoods_takes_them() -> None:
    raw = with_value("data.dataset", "features:x.npz")
    with pytest.raises(ParamsError, match=r"model.name: 'cnn' is not allowed for features:x.npz.*'mlp'"):
        check_params(raw)
    raw["model"] |= {"name": "mlp", "options": {"hidden": 64, "layers": 1}}
    check_params(raw)
    raw["training"]["augmentation"] = {"flip": True}
    with pytest.raises(ParamsError, match=r"training.augmentation.flip: True is for images, not for features:x.npz"):
        check_params(raw)
