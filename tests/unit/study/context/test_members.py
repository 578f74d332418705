"""Members of a stage item: made once, kept while nothing that decides them changes, never used when damaged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from study.context.members import Member, copy_members, make_members, make_once
from study.context.processes import Report
from turnover.errors import UserError


class Workshop:
    """Makes members whose files say who made them, and counts how often."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.said: list[tuple[str, str, Any]] = []

    def make(self, *members: Member, fail: str = "") -> list[str]:
        """The names of the members that were made."""

        def work(member: Member, folder: Path, report: Report) -> None:
            report("made", member.name)
            (folder / "sub").mkdir()
            (folder / "sub" / "what.txt").write_text(member.key)
            if member.name == fail:
                raise UserError("no")

        self.said.clear()
        make_members(
            members,
            work,
            store=self.root / "store",
            out=self.root / "out",
            processes=2,
            on_report=lambda member, kind, value: self.said.append((member.name, kind, value)),
        )
        return sorted(name for name, _, _ in self.said)

    def out(self) -> dict[str, str]:
        folder = self.root / "out"
        return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


A, B = Member("m-0", "0", "k" * 20), Member("m-1", "1", "l" * 20)


def test_a_member_more_is_the_only_one_made(shop: Workshop) -> None:
    assert shop.make(A) == ["m-0"]
    assert shop.out() == {"0/sub/what.txt": "k" * 20}
    assert shop.make(A, B) == ["m-1"]
    assert shop.out() == {"0/sub/what.txt": "k" * 20, "1/sub/what.txt": "l" * 20}
    assert shop.make(B) == []
    assert shop.out() == {"1/sub/what.txt": "l" * 20}


def test_another_key_is_made_anew_and_going_back_is_free(shop: Workshop) -> None:
    shop.make(A)
    other = Member("m-0", "0", "z" * 20)
    assert shop.make(other) == ["m-0"]
    assert shop.out() == {"0/sub/what.txt": "z" * 20}
    assert shop.make(A) == []
    assert shop.out() == {"0/sub/what.txt": "k" * 20}


def test_old_versions_go_and_those_of_others_stay(shop: Workshop) -> None:
    neighbour = Member("m-0-0", "0", "n" * 20)  # its name begins like the other's
    shop.make(neighbour)
    for letter in "abcde":
        shop.make(Member("m-0", "0", letter * 20))
        for path in (shop.root / "store").iterdir():  # each made at a time of its own
            os.utime(path, (path.stat().st_mtime - 10,) * 2)
    assert sorted(path.name for path in (shop.root / "store").iterdir()) == sorted(
        [f"m-0-0-{'n' * 20}", *(f"m-0-{letter * 20}" for letter in "cde")]
    )


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "more", "less", "manifest"])
def test_a_damaged_member_is_made_again_and_said(
    shop: Workshop, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.make(A, B)
    folder = shop.root / "store" / f"m-0-{'k' * 20}"
    file = folder / "sub" / "what.txt"
    about = file.stat()
    match damage:
        case "flip":
            file.write_text("j" + "k" * 19)
        case "truncate":
            file.write_text("k" * 19)
        case "empty":
            file.write_text("")
        case "more":
            (folder / "other").touch()
        case "less":
            file.unlink()
        case "manifest":
            (folder / "member.json").write_text("{")
    if file.exists():
        os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert shop.make(A, B) == ["m-0"]
    assert shop.out() == {"0/sub/what.txt": "k" * 20, "1/sub/what.txt": "l" * 20}
    assert f"warning: {folder} is damaged" in capsys.readouterr().err


def test_a_failure_leaves_no_out_and_keeps_who_was_finished(shop: Workshop) -> None:
    with pytest.raises(UserError, match="no"):
        shop.make(A, B, fail="m-1")
    assert not (shop.root / "out").exists()
    assert "m-1" in shop.make(A, B)
    assert len(shop.out()) == 2


def test_what_is_made_in_this_process_is_made_once_too(tmp_path: Path) -> None:
    made = []

    def work(folder: Path) -> None:
        made.append(folder.name)
        (folder / "what.txt").write_text("so")

    for _ in range(2):
        folder = make_once(A, work, store=tmp_path)
        assert (folder / "what.txt").read_text() == "so"
    assert len(made) == 1
    copy_members([Member("m-0", "", A.key)], tmp_path, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["what.txt"]
    (folder / "what.txt").write_text("no")
    make_once(A, work, store=tmp_path)
    assert len(made) == 2
