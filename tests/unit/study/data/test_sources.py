import errno
import hashlib
import os
import resource
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from study.data.sources import dataset
from study.data.sources.dataset import ARRAYS, MANIFEST, DataError, Dataset, LabelledImages, load
from study.data.sources.fetching import NAMES, fetch, local_files


def everything(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_loaded_images_may_be_written_without_harm_to_the_file(tmp_path: Path, world, files) -> None:
    folder = fetch("fashion-mnist", tmp_path / "set", local=files.put(tmp_path / "local", packed=False))
    load(folder).train.images[:] = 7
    assert not (load(folder).train.images == 7).all()


def test_a_present_dataset_is_left_alone(files, world, tmp_path: Path) -> None:
    local = files.put(tmp_path / "local", packed=False)
    folder = fetch("fashion-mnist", tmp_path / "set", local=local)
    before = {path.name: path.stat().st_ino for path in folder.iterdir()}
    shutil.rmtree(local)
    assert fetch("fashion-mnist", folder, local=local) == folder
    assert {path.name: path.stat().st_ino for path in folder.iterdir()} == before
    assert world.asked == []


@pytest.mark.parametrize("name", [*ARRAYS, MANIFEST])
@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_a_corrupt_dataset_is_refused_then_fetched_again(
    files, world, tmp_path: Path, caplog, name: str, harm: str
) -> None:
    local = files.put(tmp_path / "local", packed=False)
    folder = fetch("fashion-mnist", tmp_path / "set", local=local)
    whole = everything(folder)
    path = folder / name
    if harm == "flip":
        path.write_bytes(whole[name][:-3] + bytes([whole[name][-3] ^ 1]) + whole[name][-2:])
    elif harm == "cut":
        path.write_bytes(whole[name][:-5])
    else:
        path.unlink()
    with pytest.raises(DataError, match=r"fetch it (again|first)") as caught:
        load(folder)
    assert name in str(caught.value)
    assert str(folder) in str(caught.value)
    fetch("fashion-mnist", folder, local=local)
    assert "refused" in caplog.text
    assert everything(folder) == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["local", "set"]


def test_a_manifest_that_says_another_shape_of_truth_is_corrupt(tmp_path: Path) -> None:
    for text in ("[]", "{}", "null", '{"name": 3, "classes": [], "files": {}}'):
        (tmp_path / MANIFEST).write_text(text)
        with pytest.raises(DataError, match="corrupt"):
            load(tmp_path)


def test_a_failed_refetch_leaves_what_was_there(files, world, tmp_path: Path) -> None:
    folder = fetch("fashion-mnist", tmp_path / "set", local=files.put(tmp_path / "local", packed=False))
    (folder / "test_labels.npy").unlink()
    before = everything(folder)
    with pytest.raises(DataError, match="every source failed"):
        fetch("fashion-mnist", folder)
    assert everything(folder) == before
    assert sorted(os.listdir(tmp_path)) == ["local", "set"]


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow past 4 KiB: what a full disk looks like to one process.

    Not a fixture: the test runner reports the outcome before fixtures end, perhaps into a file that is longer.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk(files, world, tmp_path: Path) -> None:
    local = files.put(tmp_path / "local", packed=False)
    with full_disk(), pytest.raises(DataError, match=r"cannot write the dataset into .*set: File too large"):
        fetch("fashion-mnist", tmp_path / "set", local=local)
    assert os.listdir(tmp_path) == ["local"]


def test_a_disk_that_fills_while_publishing_keeps_the_old(files, world, tmp_path: Path, monkeypatch) -> None:
    local = files.put(tmp_path / "local", packed=False)
    folder = fetch("fashion-mnist", tmp_path / "set", local=local)
    (folder / "test_labels.npy").write_bytes(b"damaged")
    before = everything(folder)
    replace = os.replace

    def replace_or_fail(source: Path, target: Path) -> None:
        if Path(source).name == "dataset":
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(dataset.os, "replace", replace_or_fail)
    with pytest.raises(DataError, match="No space left on device"):
        fetch("fashion-mnist", folder, local=local)
    assert everything(folder) == before
    assert sorted(os.listdir(tmp_path)) == ["local", "set"]


def test_two_that_fetch_at_once_both_succeed(files, world, tmp_path: Path, monkeypatch) -> None:
    local = files.put(tmp_path / "local", packed=False)
    folder = tmp_path / "set"
    replace, calls = os.replace, []

    def replace_late(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == 1:  # nothing stands there yet, but the other one is done just after we looked
            fetch("fashion-mnist", folder, local=local)
            raise FileNotFoundError
        replace(source, target)

    monkeypatch.setattr(dataset.os, "replace", replace_late)
    fetch("fashion-mnist", folder, local=local)
    load(folder)
    assert sorted(os.listdir(tmp_path)) == ["local", "set"]


def test_an_unwritable_place_is_named_before_anything_is_downloaded(files, world, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"cannot write the dataset into .*file/set"):
        fetch("fashion-mnist", tmp_path / "file" / "set")
    if os.geteuid() != 0:  # root writes everywhere
        (tmp_path / "locked").mkdir(mode=0o500)
        with pytest.raises(DataError, match="Permission denied"):
            fetch("fashion-mnist", tmp_path / "locked" / "set")
    assert world.asked == []


def test_a_folder_with_anything_else_in_it_is_not_touched(files, world, tmp_path: Path) -> None:
    local = files.put(tmp_path / "local", packed=False)
    folder = fetch("fashion-mnist", tmp_path / "set", local=local)
    with pytest.raises(DataError, match="holds the dataset fashion-mnist, not digits"):
        fetch("digits", folder)
    (folder / "thesis.txt").write_text("ten years of work")
    with pytest.raises(DataError, match=r"other files, such as thesis\.txt"):
        fetch("fashion-mnist", folder, local=local)
    assert (folder / "thesis.txt").exists()
    (tmp_path / "empty").mkdir()
    load(fetch("fashion-mnist", tmp_path / "empty", local=local))


def test_a_link_is_followed_and_modes_are_ordinary(files, world, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "set").symlink_to(tmp_path / "disk")
    fetch("fashion-mnist", tmp_path / "set", local=files.put(tmp_path / "local", packed=False))
    assert (tmp_path / "set").is_symlink()
    assert (tmp_path / "disk" / MANIFEST).exists()
    assert stat.S_IMODE((tmp_path / "disk").stat().st_mode) == stat.S_IMODE((tmp_path / "local").stat().st_mode)


@pytest.mark.parametrize("name", ["imagenet", "", "Fashion-MNIST", "files:x"])
def test_an_unknown_name_is_named_with_what_is_allowed(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        fetch(name, tmp_path / "set")
    assert repr(name) in str(caught.value)
    assert all(allowed in str(caught.value) for allowed in (*NAMES, "folder:PATH", "table:PATH"))


def test_load_of_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no dataset in"):
        load(tmp_path / "nowhere")


def plain(train_names: tuple[str, ...] | None = None, test_names: tuple[str, ...] | None = None) -> Dataset:
    def part(n: int, names: tuple[str, ...] | None) -> LabelledImages:
        return LabelledImages(np.arange(n * 6, dtype=np.uint8).reshape(n, 1, 2, 3), np.arange(n) % 2, names)

    return Dataset("plain", part(5, train_names), part(3, test_names), ("é", "b"))


# Of version 0.1.0: whoever fetched a standard data set then has these bytes, and dvc.lock knows them.
WRITTEN = {
    "dataset.json": "f4ca5ce4d3f15b81cd7371d84a4a8cefd6af963524347320855b60adb7c7e283",
    "test_images.npy": "e21417a2e31f0a65c5322edcaa3c9f759c1fa16c31cf61174f91820e073edaf0",
    "test_labels.npy": "4302b74c1518b5b47b650953956444df821e0616c963dc426ece2f89536f5ffe",
    "train_images.npy": "6cfc47c9ce8ec0fe5e7b82b91c665ed9d3d4632101465fc13629a23d16a568bd",
    "train_labels.npy": "fb25dad5d8f9281301b35ac18cf418a1653cd133969df7b86c816ac899d428e1",
}


def test_a_dataset_without_names_is_written_as_ever(tmp_path: Path) -> None:
    folder = dataset.write(plain(), tmp_path / "set")
    assert {name: hashlib.sha256(data).hexdigest() for name, data in everything(folder).items()} == WRITTEN
    assert load(folder).train.names is None and load(folder).test.names is None


def test_names_come_back_and_change_no_array(tmp_path: Path) -> None:
    folder = dataset.write(plain(("a/ä.png", "a/2", "a/3", "b/1", "b/2"), ("a/4", "a/5", "b/3")), tmp_path / "set")
    again = load(folder)
    assert again.train.names == ("a/ä.png", "a/2", "a/3", "b/1", "b/2")
    assert again.test.names == ("a/4", "a/5", "b/3")
    assert all(hashlib.sha256((folder / name).read_bytes()).hexdigest() == WRITTEN[name] for name in ARRAYS)


def test_the_folder_of_the_environment_is_where_files_are_looked_for(
    files, world, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURNOVER_DATA", str(files.put(tmp_path / "local", packed=False)))
    load(fetch("fashion-mnist", tmp_path / "set", local=local_files()))
    assert world.asked == []
    for nothing in (lambda: monkeypatch.setenv("TURNOVER_DATA", ""), lambda: monkeypatch.delenv("TURNOVER_DATA")):
        nothing()
        assert local_files() is None


def test_own_images_too_leave_nothing_half_written(tmp_path: Path) -> None:
    for i in range(8):
        (tmp_path / f"own/{i % 2}").mkdir(parents=True, exist_ok=True)
        Image.new("L", (40, 40), i).save(tmp_path / f"own/{i % 2}/{i}.png")
    with full_disk(), pytest.raises(DataError, match="File too large"):
        fetch(f"folder:{tmp_path / 'own'}", tmp_path / "set")
    assert os.listdir(tmp_path) == ["own"]
