"""Fingerprints of members: what a program does counts, how it is written down does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from study.context.fingerprint import code_hash, content_hash

CODE = '''"""About."""

CONSTANT = 1


def add(a: int, b: int) -> int:
    """The sum."""
    return a + b
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "code.py").write_text(CODE)
    (tmp_path / "room" / "style.css").write_text("a { color: red }")
    return tmp_path / "room"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    return a + b", "    # why\n    return a + b  # so"),
        ('"""The sum."""', '"""What comes of both."""'),
        ('    """The sum."""\n', ""),
        ('"""About."""\n', ""),
        ("CONSTANT = 1\n", 'CONSTANT = 1\n"""Said below a name."""\n'),
        ("a + b", "(a + b)"),
    ],
)
def test_words_and_layout_do_not_count(folder: Path, old: str, new: str) -> None:
    before, bytes_before = code_hash(folder), content_hash(folder)
    (folder / "code.py").write_text(CODE.replace(old, new))
    assert code_hash(folder) == before
    assert content_hash(folder) != bytes_before


@pytest.mark.parametrize(
    ("old", "new"), [("a + b", "a - b"), ("= 1", "= 2"), ("def add", "def plus"), ("a: int", "a: float")]
)
def test_what_it_does_counts(folder: Path, old: str, new: str) -> None:
    before = code_hash(folder)
    (folder / "code.py").write_text(CODE.replace(old, new))
    assert code_hash(folder) != before


def test_other_files_count_by_every_byte_and_files_by_their_names(folder: Path) -> None:
    before = code_hash(folder)
    (folder / "style.css").write_text("a { color: blue }")
    changed = code_hash(folder)
    (folder / "style.css").rename(folder / "other.css")
    renamed, content = code_hash(folder), content_hash(folder)
    assert len({before, changed, renamed}) == 3
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "code.pyc").touch()
    assert (code_hash(folder), content_hash(folder)) == (renamed, content)
