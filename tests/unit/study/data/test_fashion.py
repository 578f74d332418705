import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from study.data.sources import debian, fashion
from study.data.sources.dataset import ARRAYS, MANIFEST, DataError, UnavailableError, load
from study.data.sources.fetching import fetch
from tests.support import required


def everything(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_bytes_are_the_same_whichever_source_answers(files, world, tmp_path: Path) -> None:
    fetch("fashion-mnist", tmp_path / "raw", local=files.put(tmp_path / "a", packed=False))
    fetch("fashion-mnist", tmp_path / "gz", local=files.put(tmp_path / "b", packed=True))
    files.put(tmp_path / "c/FashionMNIST/raw", packed=False)
    fetch("fashion-mnist", tmp_path / "layout", local=tmp_path / "c")
    assert world.asked == []
    world.mirror = lambda name: gzip.compress(files[name.removesuffix(".gz")], 1)
    fetch("fashion-mnist", tmp_path / "mirror")
    assert world.asked == [f"{world.address}{name}.gz" for name in files]
    world.mirror = type(world)().mirror
    world.package = lambda: {f"{name}.gz": gzip.compress(data, 9) for name, data in files.items()}
    fetch("fashion-mnist", tmp_path / "package")
    first = everything(tmp_path / "raw")
    assert set(first) == {MANIFEST, *ARRAYS}
    for other in ("gz", "layout", "mirror", "package"):
        assert everything(tmp_path / other) == first


def test_what_is_loaded_is_what_the_files_say(files, world, tmp_path: Path) -> None:
    files.put(tmp_path / "local", packed=True)
    got = load(fetch("fashion-mnist", tmp_path / "set", local=tmp_path / "local"))
    assert got.name == "fashion-mnist"
    assert got.classes[9] == "Ankle boot"
    assert len(got.classes) == 10
    assert got.train.images.shape == (30, 1, 28, 28)
    assert got.test.images.shape == (10, 1, 28, 28)
    assert got.train.images.tobytes() == files["train-images-idx3-ubyte"][16:]
    assert got.test.labels.tolist() == list(files["t10k-labels-idx1-ubyte"][8:])


def damage(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def test_a_corrupt_download_is_tried_once_more(files, world, tmp_path: Path, caplog) -> None:
    def mirror(name: str) -> bytes:
        data = files[name.removesuffix(".gz")]
        again = sum(url.endswith(name) for url in world.asked) > 1
        return gzip.compress(data if again or "labels" in name else damage(data))

    world.mirror = mirror
    folder = fetch("fashion-mnist", tmp_path / "set")
    assert load(folder).train.images.tobytes() == files["train-images-idx3-ubyte"][16:]
    assert caplog.text.count("checksum") == 2
    assert len(world.asked) == 6


def test_a_corrupt_source_gives_way_to_the_next(files, world, tmp_path: Path, caplog) -> None:
    local = type(files)({name: damage(data) for name, data in files.items()}).put(tmp_path / "local", packed=True)
    good = {f"{name}.gz": gzip.compress(data) for name, data in files.items()}
    bad = {
        "damaged": lambda name: gzip.compress(damage(files[name.removesuffix(".gz")])),
        "cut": lambda name: good[name][:-20],
        "page": lambda name: b"<html>log in to this network</html>",
        "long": lambda name: gzip.compress(files[name.removesuffix(".gz")] + b"more"),
    }
    for kind, mirror in bad.items():
        world.mirror, world.package = mirror, lambda: good
        folder = fetch("fashion-mnist", tmp_path / kind, local=local)
        assert load(folder).test.images.tobytes() == files["t10k-images-idx3-ubyte"][16:]
    assert "wrong checksum" in caplog.text
    assert "does not unpack" in caplog.text
    assert "more than" in caplog.text


def test_when_all_fail_every_source_is_listed_with_its_reason(files, world, tmp_path: Path) -> None:
    local = files.put(tmp_path / "local", packed=False)
    (local / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError) as caught:
        fetch("fashion-mnist", tmp_path / "set", local=local)
    lines = str(caught.value).splitlines()
    assert len(lines) == 5
    assert str(local) in lines[1]
    assert "t10k-labels-idx1-ubyte is not there" in lines[1]
    assert world.address in lines[2]
    assert "timed out" in lines[2]
    assert "dataset-fashion-mnist" in lines[3]
    assert "apt-get not found" in lines[3]
    assert "TURNOVER_DATA" in lines[4]
    assert "digits" in lines[4]
    assert "train-images-idx3-ubyte" in lines[4]
    assert [path.name for path in tmp_path.iterdir()] == ["local"]
    with pytest.raises(DataError, match="there is no such folder"):
        fetch("fashion-mnist", tmp_path / "set", local=tmp_path / "nowhere")


def test_mirrors_are_those_that_torchvision_names(monkeypatch) -> None:
    found = fashion.mirrors()
    assert found
    assert all(address.startswith("http") and "fashion" in address for address in found)
    monkeypatch.setattr(fashion.importlib.util, "find_spec", lambda name: None)
    assert fashion.mirrors() == []


def test_without_mirrors_the_other_sources_are_tried(files, world, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(fashion, "mirrors", list)
    with pytest.raises(DataError, match="torchvision's mirrors: torchvision, which names them, is not installed"):
        fetch("fashion-mnist", tmp_path / "set")
    world.package = lambda: {f"{name}.gz": gzip.compress(data) for name, data in files.items()}
    fetch("fashion-mnist", tmp_path / "set")


def test_download_draws_no_bar_off_a_terminal(tmp_path: Path, capfd) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100_000)
    assert fashion.download((tmp_path / "file").as_uri()) == b"x" * 100_000
    assert capfd.readouterr().err == ""
    with pytest.raises(OSError, match="gone"):
        fashion.download((tmp_path / "gone").as_uri())


@pytest.fixture
def tools(tmp_path: Path, monkeypatch) -> Path:
    """An apt-get and a dpkg-deb that do as little as they can; `told` keeps apt's configuration."""
    bin = tmp_path / "bin"
    bin.mkdir()
    apt = f'cat "$3" > {tmp_path}/told\n[ "$4" = update ] && exit 0\n: > "$5_1.0_all.deb"\n'
    dpkg = 'mkdir -p "$3/usr/share/x"\nprintf data > "$3/usr/share/x/a-ubyte.gz"\n: > "$3/usr/share/x/README"\n'
    for name, script in (("apt-get", apt), ("dpkg-deb", dpkg)):
        (bin / name).write_text(f"#!/bin/sh\n{script}")
        (bin / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin}:{os.environ['PATH']}")
    return tmp_path


def test_a_debian_package_is_unpacked_in_a_private_place(tools: Path) -> None:
    assert debian.package_files("dataset-x", ending="-ubyte.gz") == {"a-ubyte.gz": b"data"}
    told = (tools / "told").read_text()
    place = Path(told.split('Dir::State::Lists "')[1].split('/lists"')[0])
    assert place.is_absolute()
    assert not place.exists()
    assert f'Dir::Cache "{place}/cache"' in told
    assert 'APT::Sandbox::User "";' in told


def test_debian_failures_say_why(tools: Path, monkeypatch) -> None:
    (tools / "bin/apt-get").write_text("#!/bin/sh\necho 'W: odd' >&2\necho \"E: cannot $4\" >&2\nexit 100\n")
    with pytest.raises(UnavailableError, match="E: cannot update; E: cannot download"):
        debian.package_files("dataset-x", ending=".gz")
    (tools / "bin/apt-get").write_text("#!/bin/sh\nexec sleep 30\n")
    monkeypatch.setattr(debian, "SECONDS", 0.2)
    with pytest.raises(UnavailableError, match=r"no result in 0\.2 seconds"):
        debian.package_files("dataset-x", ending=".gz")
    (tools / "bin/dpkg-deb").unlink()
    monkeypatch.setenv("PATH", str(tools / "bin"))
    with pytest.raises(UnavailableError, match="dpkg-deb not found"):
        debian.package_files("dataset-x", ending=".gz")


@pytest.mark.network
def test_the_real_fashion_mnist(tmp_path: Path) -> None:
    try:
        folder = fetch("fashion-mnist", tmp_path / "set")
    except DataError as error:
        if required("network"):
            raise
        pytest.skip(f"no source answered: {error}")
    got = load(folder)
    assert got.train.images.shape == (60_000, 1, 28, 28)
    assert got.test.images.shape == (10_000, 1, 28, 28)
    assert np.bincount(got.train.labels).tolist() == [6_000] * 10
    assert np.bincount(got.test.labels).tolist() == [1_000] * 10
