"""A store that was damaged is never read as something else, and a full disk is a sentence."""

from __future__ import annotations

import random
import resource
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch

from tests.unit.turnover.attribution.networks import CLASSES, examples, network
from turnover.attribution.scorer import scratch
from turnover.attribution.store import ScoreStore
from turnover.attribution.summary import InfluenceSummary, summarize
from turnover.errors import UserError

T = TypeVar("T")
IDS = torch.arange(40)
X, Y = examples(20)


def summary(folder: Path) -> InfluenceSummary:
    return summarize(network("head"), IDS, IDS % CLASSES, X, Y, store=ScoreStore(folder), memory=12_000)


def load(folder: Path) -> list[np.ndarray]:
    found = ScoreStore.load(folder)
    return [np.array(found.scores[0]), found.train_ids]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A finished store of several tiles."""
    summary(tmp_path / "s")
    assert np.load(tmp_path / "s" / "done.npy").size > 4
    return tmp_path / "s"


def flips(content: bytes) -> list[bytes]:
    """One bit is another: all over the file, in the header, and in the last number."""
    chance, found = random.Random(len(content)), []
    for place in (*chance.sample(range(len(content)), 15), *range(0, 80, 9), len(content) - 1):
        damaged = bytearray(content)
        damaged[place] ^= 1 << chance.randrange(8)
        found.append(bytes(damaged))
    return found


def refused_or(read: Callable[[Path], T], store: Path) -> T | None:
    """What is read, or None where that is refused with its cure."""
    try:
        return read(store)
    except UserError as error:
        if f"delete the folder {store}" not in str(error):
            raise
    return None


@pytest.mark.parametrize("name", ["manifest.json", "scores-0.npy", "done.npy"])
def test_damage_is_refused_or_computed_again_and_said(store: Path, name: str) -> None:
    """With every bit of importance: the same scores, or a sentence with the cure."""
    expected, scores = summary(store), load(store)
    whole = (store / name).read_bytes()
    ends = [whole[:0], whole[:30], whole[: len(whole) // 2], whole[:-1]]
    outcomes = []
    for content in (*flips(whole), *ends):
        (store / name).write_bytes(content)
        if (read := refused_or(load, store)) is not None:
            assert all(map(np.array_equal, read, scores))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found = refused_or(summary, store)
        if found is None:
            outcomes.append("refused")
        else:
            assert torch.equal(found.total, expected.total) and torch.equal(found.helpful, expected.helpful)
            assert all(map(np.array_equal, load(store), scores))
            outcomes.append("healed" if said else "harmless")
        (store / name).write_bytes(whole)
    assert "refused" in outcomes
    assert ("healed" in outcomes) == (name != "manifest.json")


def test_tiles_that_never_reached_the_disk_are_computed_again(store: Path) -> None:
    """As after a power cut: what is done is noted, the scores are holes."""
    scores = load(store)
    begun = store.rename(f"{store}.part")
    whole = (begun / "scores-0.npy").read_bytes()
    (begun / "scores-0.npy").write_bytes(whole[:128])
    with pytest.warns(UserWarning, match="s.part is damaged: scores that are not what was written are computed again"):
        summary(store)
    assert all(map(np.array_equal, load(store), scores))


def test_scores_are_read_without_a_look_where_somebody_wants_that(store: Path) -> None:
    scores = np.load(store / "scores-0.npy", mmap_mode="r+")
    scores[3, 3] += 1
    scores.flush()
    with pytest.raises(UserError, match="scores-0.npy is damaged"):
        ScoreStore.load(store)
    assert ScoreStore.load(store, verify=False).scores[0][3, 3] == scores[3, 3]


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "mine.txt").touch()
    with pytest.raises(UserError, match=r"manifest.json is damaged or of another version"):
        summary(tmp_path / "s")
    assert [path.name for path in tmp_path.rglob("*")] == ["s", "mine.txt"]


def test_a_disk_without_room_is_a_sentence_before_any_work(tmp_path: Path) -> None:
    """And nothing is left there that takes up the rest of it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        with pytest.raises(UserError, match=r"MiB on the disk could not be had for .*scores-0.npy .*: free space"):
            summary(tmp_path / "s")
        with pytest.raises(UserError, match="free space, set TMPDIR to a folder on a larger disk, or raise memory="):
            scratch((100, 100), 1000, torch.device("cpu"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
    summary(tmp_path / "s")


def test_a_begun_store_takes_its_room_again(store: Path) -> None:
    """Holes in a file, as a copy may leave them, would kill who writes there once the disk is full."""
    begun = store.rename(f"{store}.part")
    path = begun / "scores-0.npy"
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(128)
        file.truncate(size)
    with pytest.warns(UserWarning, match="is damaged"):
        summary(store)
    assert (store / "scores-0.npy").stat().st_blocks * 512 >= size
    shutil.rmtree(store)
