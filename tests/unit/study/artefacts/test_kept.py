"""Kept results: made once, whole or not at all, and never taken for one once they are damaged."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest

from study.artefacts.files import read_npz, write_npz
from study.artefacts.kept import KeptResults
from turnover.errors import UserError

ARRAYS = {"margin": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3), "right": np.eye(2, dtype=np.bool_)}


def same(found: dict[str, np.ndarray]) -> bool:
    return list(found) == list(ARRAYS) and all(
        found[name].dtype == value.dtype and np.array_equal(found[name], value) for name, value in ARRAYS.items()
    )


def test_no_flipped_bit_and_no_missing_end_is_read_as_something_else(tmp_path: Path) -> None:
    """Every byte of the file in turn. Some are of no importance, such as the date: then the arrays are the same."""
    path = tmp_path / "x.npz"
    write_npz(path, ARRAYS)
    whole = path.read_bytes()
    assert same(read_npz(path))
    refused = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        for content in (bytes(damaged), whole[:place]):
            path.write_bytes(content)
            try:
                assert same(read_npz(path)), place
                assert len(content) == len(whole), place
            except ValueError:
                refused += 1
    assert refused > 1.6 * len(whole)


def test_a_result_is_made_once_and_keeps_its_seconds(tmp_path: Path) -> None:
    made = []

    def make() -> dict[str, np.ndarray]:
        made.append(1)
        return ARRAYS

    first = KeptResults(tmp_path / "x").get("one", make)
    again = KeptResults(tmp_path / "x").get("one", make)
    assert len(made) == 1
    assert again.seconds == first.seconds > 0
    assert same(dict(again.arrays)) and again["right"].all() == ARRAYS["right"].all()


def test_an_interrupted_result_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> dict[str, np.ndarray]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        KeptResults(tmp_path).get("one", interrupted)
    assert not list(tmp_path.iterdir())
    assert KeptResults(tmp_path).read("one") is None


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            KeptResults(tmp_path).keep("one", {"a": np.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"half of a file"])
def test_a_damaged_result_is_one_sentence_with_its_cure(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "one.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"one.npz is damaged \(.+\): delete it and run this again"):
        KeptResults(tmp_path).get("one", lambda: ARRAYS)
