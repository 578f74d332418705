"""A small Fashion-MNIST, pictures of a user, and a world in which every source is down unless a test says otherwise."""

import gzip
import hashlib
import struct
import sys
import types
import urllib.error
from pathlib import Path

import numpy as np
import pytest

from study.data.sources import debian, fashion
from study.data.sources.dataset import UnavailableError
from tests.unit.study.data.pictures import save

MIRROR = "http://mirror.invalid/"


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


class Files(dict[str, bytes]):
    """IDX files by name."""

    def put(self, folder: Path, *, packed: bool) -> Path:
        """Writes them into `folder`, gzip or not, and returns it."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in self.items():
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(data))
            else:
                (folder / name).write_bytes(data)
        return folder


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Files:
    """A Fashion-MNIST of 30 + 10 images whose checksums are the right ones for this test."""
    rng = np.random.default_rng(0)
    contents = Files()
    for name in fashion.FILES:
        n = 30 if name.startswith("train") else 10
        shape, top = ((n, 28, 28), 256) if "images" in name else ((n,), 10)
        contents[name] = idx(rng.integers(top, size=shape, dtype=np.uint8))
    known = {name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in contents.items()}
    monkeypatch.setattr(fashion, "FILES", known)
    return contents


class World:
    """Everything outside: all of it is down unless a test says otherwise."""

    address = MIRROR

    def __init__(self) -> None:
        self.asked: list[str] = []

    def mirror(self, name: str) -> bytes:
        raise urllib.error.URLError(TimeoutError("timed out"))

    def package(self) -> dict[str, bytes]:
        raise UnavailableError("apt-get not found: not a Debian-like system")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()

    def download(url: str) -> bytes:
        assert url.startswith(MIRROR)
        world.asked.append(url)
        return world.mirror(url.removeprefix(MIRROR))

    def package_files(package: str, *, ending: str) -> dict[str, bytes]:
        world.asked.append(package)
        return world.package()

    monkeypatch.setattr(fashion, "download", download)
    monkeypatch.setattr(fashion, "mirrors", lambda: [MIRROR])
    monkeypatch.setattr(debian, "package_files", package_files)
    datasets = types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, "torchvision", types.SimpleNamespace(datasets=datasets))
    monkeypatch.setitem(sys.modules, "torchvision.datasets", datasets)
    return world


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two classes of 30 grey images, 4 wide and 3 high; image i is painted with i (cat) or 100 + i (dog)."""
    for i in range(30):
        save(tmp_path / f"pictures/cat/{i}.png", i)
        save(tmp_path / f"pictures/dog/{i}.png", 100 + i)
    return tmp_path / "pictures"
