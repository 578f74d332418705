"""What lies in class folders beside images."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from study.data.sources.dataset import load
from study.data.sources.fetching import fetch
from tests.unit.study.data.pictures import by_name, refusal, save
from turnover.collecting.folders import folder_rows
from turnover.collecting.rows import Row, check_inside
from turnover.errors import DataError

LEAVINGS = [
    ".ipynb_checkpoints", ".thumbnails", ".Trash-1000", ".AppleDouble", "@eaDir", "@Recycle", "__MACOSX", "lost+found",
    "$RECYCLE.BIN", "System Volume Information", "#recycle",
]  # fmt: skip


def few(root: Path) -> Path:
    """Three pictures in each of two classes."""
    for label in ("cat", "dog"):
        for n in range(3):
            save(root / label / f"{n}.png", n)
    return root


def names(root: Path, out: Path) -> list[str]:
    return sorted(by_name(load(fetch(f"folder:{root}", out))))


@pytest.mark.parametrize("leaving", LEAVINGS)
@pytest.mark.parametrize("above", ["", "cat", "cat/deep/deeper"])
def test_what_tools_leave_behind_is_left_out_at_any_depth(
    tmp_path: Path, leaving: str, above: str, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = names(few(tmp_path / "set"), tmp_path / "before")
    assert len(wanted) == 6
    save(tmp_path / "set" / above / leaving / "cat/0.png", 9)
    save(tmp_path / "set" / above / leaving / "0.png", 9)
    assert names(tmp_path / "set", tmp_path / "after") == wanted
    said = "1 folders that systems and tools leave behind" in caplog.text
    assert said != leaving.startswith("."), "of hidden folders nobody wants to hear"


def test_the_leavings_in_folders_of_splits_are_left_out(tmp_path: Path) -> None:
    for part in ("train", "test"):
        few(tmp_path / "set" / part)
        save(tmp_path / "set" / part / "@eaDir/0.png")
    save(tmp_path / "set/__MACOSX/train/cat/0.png")
    dataset = load(fetch(f"folder:{tmp_path / 'set'}", tmp_path / "out"))
    assert dataset.classes == ("cat", "dog")
    assert (len(dataset.train), len(dataset.test)) == (6, 6)


def test_a_split_is_no_class_for_a_hidden_picture_in_it(tmp_path: Path) -> None:
    for name in ("train/cat/1", "train/dog/1", "notes/x/1", "train/._1"):
        save(tmp_path / f"set/{name}.png")
    assert "holds the split train, but no test" in refusal(f"folder:{tmp_path / 'set'}", tmp_path)


def test_files_are_no_leavings_for_their_names(tmp_path: Path) -> None:
    save(few(tmp_path / "set") / "cat/@me.png")
    save(tmp_path / "set/cat/$1.png")
    assert {"cat/@me.png", "cat/$1.png"} < set(names(tmp_path / "set", tmp_path / "out"))


def test_links_to_nothing_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wanted = names(few(tmp_path / "set"), tmp_path / "before")
    for n in range(4):
        (tmp_path / f"set/cat/gone{n}.png").symlink_to("/nowhere/else.png")
    (tmp_path / "set/loose.png").symlink_to("/nowhere/else.png")
    (tmp_path / "set/dog/circle.png").symlink_to("circle.png")
    assert names(tmp_path / "set", tmp_path / "after") == wanted
    assert "passed over 6 links to files that are not there (was everything checked out" in caplog.text
    assert f"such as {tmp_path / 'set/cat/gone0.png'}" in caplog.text


def test_a_class_of_links_to_nothing_is_refused(tmp_path: Path) -> None:
    few(tmp_path / "set")
    for n in range(4):
        (tmp_path / f"set/cat/{n}.png").unlink(missing_ok=True)
        (tmp_path / f"set/cat/{n}.png").symlink_to("/nowhere/else.png")
    message = refusal(f"folder:{tmp_path / 'set'}", tmp_path)
    assert f"the class folder {tmp_path / 'set/cat'} holds no image, only 4 links to nothing" in message


@pytest.mark.parametrize("place", ["owl", "train/owl"])
def test_a_class_that_is_a_link_to_nothing_is_refused(tmp_path: Path, place: str) -> None:
    root = tmp_path / "set"
    for part in ("train", "test") if "/" in place else ("",):
        few(root / part)
    (root / place).symlink_to("/nowhere/owl")
    assert f"{root / place} is a link to nothing, perhaps once to a folder" in refusal(f"folder:{root}", tmp_path)


def test_links_to_files_and_folders_are_followed_and_not_in_circles(tmp_path: Path) -> None:
    few(tmp_path / "set")
    save(tmp_path / "store/deep/7.png", 7)
    (tmp_path / "set/cat/7.png").symlink_to(tmp_path / "store/deep/7.png")
    (tmp_path / "set/dog/more").symlink_to(tmp_path / "store")
    (tmp_path / "set/dog/circle").symlink_to("..", target_is_directory=True)
    (tmp_path / "store/back").symlink_to(tmp_path / "store", target_is_directory=True)
    found = by_name(load(fetch(f"folder:{tmp_path / 'set'}", tmp_path / "out")))
    assert found["cat/7.png"][1] == "cat" and (found["cat/7.png"][0] == 7).all()
    assert found["dog/more/deep/7.png"][1] == "dog" and (found["dog/more/deep/7.png"][0] == 7).all()
    assert not [name for name in found if "back" in name]


def test_images_in_no_class_folder_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(few(tmp_path / "set") / "stray.png")
    (tmp_path / "set/README.md").write_text("about")
    assert len(names(tmp_path / "set", tmp_path / "out")) == 6
    assert f"passed over 1 images that lie in no class folder, such as {tmp_path / 'set/stray.png'}" in caplog.text
    assert "README" not in caplog.text


def test_a_folder_s_name_that_nobody_can_write_is_kept_readable(tmp_path: Path) -> None:
    few(tmp_path / "set")
    (tmp_path / "set/dog").rename(os.fsdecode(os.fsencode(tmp_path) + b"/set/caf\xe9"))
    dataset = load(fetch(f"folder:{tmp_path / 'set'}", tmp_path / "out"))
    assert dataset.classes == ("caf\\xe9", "cat")
    assert len(np.unique(np.concatenate([dataset.train.labels, dataset.test.labels]))) == 2


def test_pipes_are_no_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wanted = names(few(tmp_path / "set"), tmp_path / "before")
    os.mkfifo(tmp_path / "set/cat/9.png")
    assert names(tmp_path / "set", tmp_path / "after") == wanted
    assert "9.png" in caplog.text


def test_images_that_lie_outside_are_found(tmp_path: Path) -> None:
    root = few(tmp_path / "set")
    check_inside(folder_rows(root), root, "mend it")
    (root / "cat/inside.png").symlink_to(root / "dog/0.png")
    (root / "again").symlink_to(root / "dog")
    check_inside(folder_rows(root), root, "mend it")
    save(tmp_path / "store/7.png")
    (root / "cat/7.png").symlink_to(tmp_path / "store/7.png")
    (root / "owl").symlink_to(tmp_path / "store")
    with pytest.raises(DataError, match=r"2 images lie outside of .*/set, such as cat/7\.png; mend it"):
        check_inside(folder_rows(root), root, "mend it")
    beside = Row(root / "../set-more/1.png", "../set-more/1.png", "x", None)
    with pytest.raises(DataError, match="1 images lie outside"):
        check_inside([beside], root, "mend it")
