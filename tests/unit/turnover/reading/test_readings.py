"""Readings on the disk come back as they were, grow, and are never damaged in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from tests.unit.turnover.reading.test_one_pass import NAMES, SET, N, X, Y, network
from turnover import Readings, memorization, neighbourhood, read
from turnover.reading.storage import Rows


@pytest.mark.parametrize("ids", [None, NAMES])
@pytest.mark.parametrize("how", ["saved", "read into a folder"])
def test_what_is_loaded_is_what_was_read(tmp_path: Path, ids: Any, how: str) -> None:
    model, folder = network(), tmp_path / "a" / "b"
    one = read(model, SET, ids=ids, folder=folder if how == "read into a folder" else None)
    if how == "saved":
        one.save(folder)
    other = Readings.load(folder)
    assert one.fingerprint == other.fingerprint and list(one.names) == list(other.names)
    assert one.features is not None and other.features is not None
    assert torch.equal(one.features[:], other.features[:])
    pd.testing.assert_frame_equal(memorization(model, one), memorization(model, other))
    pd.testing.assert_frame_equal(memorization(model, one), memorization(model, SET, ids=ids))
    with pytest.raises(ValueError, match="holds readings already"):
        one.save(folder)
    assert not list(folder.glob(".*"))


def test_a_set_that_is_read_in_two_parts_is_a_set(tmp_path: Path) -> None:
    model = network()
    read(model, X[:20], Y[:20], NAMES[:20], folder=tmp_path)
    both = read(model, X[20:], Y[20:], NAMES[20:], folder=tmp_path)
    whole = memorization(model, X, Y, NAMES)
    pd.testing.assert_frame_equal(memorization(model, both), whole, rtol=1e-4, atol=1e-5)
    pd.testing.assert_frame_equal(memorization(model, Readings.load(tmp_path)), whole, rtol=1e-4, atol=1e-5)
    assert len(list(tmp_path.iterdir())) == 4
    with pytest.raises(ValueError, match="2 ids are in .* already, such as "):
        read(model, X[:2], Y[:2], NAMES[18:20], folder=tmp_path)
    with pytest.raises(ValueError, match="of another kind"):
        read(model, X[:2], Y[:2], folder=tmp_path)
    with pytest.raises(ValueError, match="of another network"):
        read(network(width=50), X[:2], Y[:2], ["a", "b"], folder=tmp_path)
    with pytest.raises(ValueError, match="pass the same precision"):
        read(model, X[:2], Y[:2], ["a", "b"], folder=tmp_path, precision="float16")
    assert len(Readings.load(tmp_path)) == N  # whatever went wrong


class Failing(nn.Module):
    """Fails at a batch of 30."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Any:
        if len(x) == 30:
            raise RuntimeError("no power")
        return self.network(x)


def test_an_interrupted_reading_leaves_what_was_there(tmp_path: Path) -> None:
    model = Failing(network())
    read(model, X[:4], Y[:4], folder=tmp_path)
    before = Readings.load(tmp_path).fingerprint
    with pytest.raises(RuntimeError, match="no power"):
        read(model, [(X[:5], Y[:5], np.arange(5) + 50), (X[5:35], Y[5:35], np.arange(5, 35) + 50)], folder=tmp_path)
    assert Readings.load(tmp_path).fingerprint == before
    assert len(read(model, X[4:9], Y[4:9], torch.arange(4, 9), folder=tmp_path)) == 9
    pd.testing.assert_frame_equal(
        memorization(model, Readings.load(tmp_path)), memorization(model, X[:9], Y[:9]), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", ["features.bin", "columns", "readings.json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_damage_is_noticed(tmp_path: Path, name: str, damage: str) -> None:
    read(network(), SET, folder=tmp_path)
    (path,) = (path for path in tmp_path.iterdir() if path.name.startswith(name))
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content if damage == "flipped" else content[:-1])
    with pytest.raises(ValueError, match=r"read the data again|holds no readings"):
        Readings.load(tmp_path)


def test_readings_of_another_version_are_refused(tmp_path: Path) -> None:
    read(network(), SET, folder=tmp_path)
    manifest = json.loads((tmp_path / "readings.json").read_text())
    (tmp_path / "readings.json").write_text(json.dumps(manifest | {"version": 0}))
    with pytest.raises(ValueError, match="another version of the library"):
        Readings.load(tmp_path)


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_rows_in_memory_and_on_the_disk(tmp_path: Path, precision: Any) -> None:
    values = torch.randn(100, 7, generator=torch.Generator().manual_seed(0))
    exact = values.to(getattr(torch, precision)).float()
    spilled, kept, file = Rows(precision, memory=10), Rows(precision), Rows(precision, tmp_path / "x")
    for rows in (spilled, kept, file):
        for part in torch.split(values, 9):
            rows.append(part)
        assert len(rows) == 100 and torch.equal(rows[:], exact)
        assert torch.equal(rows[13:40], exact[13:40]) and rows[50:50].shape == (0, 7)
        assert torch.equal(torch.cat(list(rows)), exact)
    assert (tmp_path / "x").stat().st_size == 700 * (4 if precision == "float32" else 2)
    with pytest.raises(ValueError, match="features have 6 numbers here but 7 before"):
        kept.append(values[:, :6])
    if precision == "float16":
        with pytest.raises(ValueError, match='too large for precision="float16": use "bfloat16"'):
            kept.append(values + 1e5)


def test_scores_do_not_depend_on_memory_nor_much_on_precision() -> None:
    model = network()
    one = memorization(model, SET)
    # With little memory a batch goes through the network in parts, whose products round otherwise.
    pd.testing.assert_frame_equal(memorization(model, SET, memory=1), one, rtol=1e-4)
    half = memorization(model, read(model, SET, precision="bfloat16"))
    assert 0 < np.abs(half["sharpened"] - one["sharpened"]).max() < 0.02
    model.register_forward_pre_hook(lambda module, args: args)  # a hook of somebody's changes nothing
    pd.testing.assert_frame_equal(neighbourhood(model, SET, memory=1), neighbourhood(model, SET), rtol=1e-4)


def test_a_disk_without_space_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Full:
        def seek(self, *place: int) -> int:
            return 0

        def truncate(self, size: int) -> None: ...

        def close(self) -> None: ...

        def write(self, content: memoryview) -> int:
            raise OSError(28, "No space left on device")

    rows = Rows(path=tmp_path / "x")
    rows._file = Full()  # type: ignore[assignment]
    with pytest.raises(
        ValueError, match=r"could not be written \(No space left on device\): free space, or pass folder"
    ):
        rows.append(X)
