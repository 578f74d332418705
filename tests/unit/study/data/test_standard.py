import errno
import hashlib
import os
import sys
import types
import urllib.error
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from study.data.sources.dataset import DataError, load
from study.data.sources.fetching import fetch


def everything(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_digits(tmp_path: Path) -> None:
    got = load(fetch("digits", tmp_path / "a"))
    assert got.train.images.shape == (1498, 1, 8, 8)
    assert len(got.test) == 299
    assert got.train.images.min() == 0
    assert got.train.images.max() == 255
    assert got.train.labels[:6].tolist() == [0, 1, 2, 3, 4, 6]
    assert got.test.labels[0] == 5
    assert everything(fetch("digits", tmp_path / "b")) == everything(tmp_path / "a")


def a_torchvision(make: Callable[..., object]) -> types.SimpleNamespace:
    kinds = dict.fromkeys(("MNIST", "CIFAR10", "SVHN"), make)
    return types.SimpleNamespace(**kinds)


def test_torchvision_layouts_all_become_channels_first(world, tmp_path: Path, monkeypatch) -> None:
    rng = np.random.default_rng(0)
    colour = rng.integers(256, size=(6, 3, 5, 4), dtype=np.uint8)
    labels = [0, 1, 2, 0, 1, 2]
    splits = {
        "mnist": types.SimpleNamespace(data=colour[:, 0], targets=np.array(labels), classes=["a", "b", "c"]),
        "cifar10": types.SimpleNamespace(data=colour.transpose(0, 2, 3, 1), targets=labels, classes=["a", "b", "c"]),
        "svhn": types.SimpleNamespace(data=colour, labels=np.array(labels)),
    }
    for name, split in splits.items():
        asked: list[object] = []

        def make(root: Path, download: bool, train=None, split=None, result=split, asked=asked) -> object:
            asked.append(train if split is None else split)
            return result

        monkeypatch.setattr(sys.modules["torchvision"], "datasets", a_torchvision(make))
        got = load(fetch(name, tmp_path / name))
        assert (got.train.images == (colour[:, :1] if name == "mnist" else colour)).all()
        assert got.test.labels.tolist() == labels
        assert asked == (["train", "test"] if name == "svhn" else [True, False])
        assert len(got.classes) == (10 if name == "svhn" else 3)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (urllib.error.URLError(OSError(-2, "Name or service not known")), ("Name or service", "digits")),
        (RuntimeError("File not found or corrupted."), ("corrupted", "TURNOVER_DATA")),
        (OSError(errno.ENOSPC, "No space left on device"), ("cannot write the dataset into", "No space")),
    ],
)
def test_torchvision_failures(world, tmp_path: Path, monkeypatch, error, words) -> None:
    def fail(root: Path, train: bool, download: bool) -> object:
        (root / "half").write_text("half a download")
        raise error

    monkeypatch.setattr(sys.modules["torchvision"], "datasets", a_torchvision(fail))
    with pytest.raises(DataError) as caught:
        fetch("cifar10", tmp_path / "set")
    assert all(word in str(caught.value) for word in words)
    assert os.listdir(tmp_path) == []


def test_archives_in_a_local_folder_are_told_apart_by_checksum(world, tmp_path: Path, monkeypatch) -> None:
    for folder, content in (("FashionMNIST", b"shirts"), ("MNIST", b"digits")):
        (tmp_path / "local" / folder).mkdir(parents=True)
        (tmp_path / "local" / folder / "images.gz").write_bytes(content)

    class MNIST:
        resources = (("images.gz", hashlib.md5(b"digits").hexdigest()), ("labels.gz", "none"))
        data, targets, classes = np.zeros((2, 3, 3), np.uint8), [0, 1], ("0", "1")

        def __init__(self, root: Path, train: bool, download: bool) -> None:
            assert [path.read_bytes() for path in (root / "MNIST" / "raw").iterdir()] == [b"digits"]

    def check_integrity(path: Path, md5: str) -> bool:
        return hashlib.md5(path.read_bytes()).hexdigest() == md5

    monkeypatch.setattr(sys.modules["torchvision"], "datasets", types.SimpleNamespace(MNIST=MNIST))
    utils = types.SimpleNamespace(check_integrity=check_integrity)
    monkeypatch.setitem(sys.modules, "torchvision.datasets.utils", utils)
    fetch("mnist", tmp_path / "set", local=tmp_path / "local")
