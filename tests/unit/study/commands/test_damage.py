"""Outs that were damaged behind DVC's back, with size and time kept, are brought back, or are looked at again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from study.commands.damage import bring_back
from study.context.declaration import read_yaml
from study.context.lock import md5_of, other_outs
from tests.support import ROOT

PIPELINE = """
stages:
  data:
    cmd: >-
      mkdir -p data/x figures && echo 12345 > data/x/a && echo 7 > data/x/b && echo plain > free
      && echo of last week > committed && echo a figure > figures/b
    outs:
      - data/x
      - committed:
          cache: false
      - figures:
          cache: false
      - free:
          cache: false
"""


def dvc(folder: Path, *arguments: str) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["dvc", *arguments], cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True
    )
    return done.stdout


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True)


def flip(path: Path) -> None:
    """Another byte in the middle, the same size and time."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_hashes_are_those_of_dvc() -> None:
    """The committed results are what the committed lock says they are."""
    outs = [out for stage in read_yaml(ROOT / "dvc.lock")["stages"].values() for out in stage["outs"]]
    committed = {out["path"]: out["md5"] for out in outs if (ROOT / out["path"]).exists()}
    assert committed["reports/figures"] == md5_of(ROOT / "reports/figures")
    assert committed["reports/headline.json"] == md5_of(ROOT / "reports/headline.json")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A pipeline that has run, and is committed but for its last out."""
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    git(tmp_path, "init", "--quiet")
    dvc(tmp_path, "init")
    dvc(tmp_path, "repro")
    git(tmp_path, "add", "dvc.lock", "committed", "figures")
    git(tmp_path, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-m", "x")
    return tmp_path


def test_what_dvc_does_not_see_is_brought_back_or_made_visible(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bring_back(root)
    assert capsys.readouterr().err == ""
    for name in ("data/x/a", "committed", "figures/b", "free"):
        flip(root / name)
    assert "up to date" in dvc(root, "status")
    assert set(other_outs(root)) == {"data/x", "committed", "figures", "free"}
    bring_back(root)
    assert (root / "data/x/a").read_text() == "12345\n"  # from DVC's cache
    assert (root / "committed").read_text() == "of last week\n"  # from git
    assert (root / "figures/b").read_text() == "a figure\n"
    assert capsys.readouterr().err.count("was not what dvc.lock says; it is now, without a run") == 3
    assert set(other_outs(root)) == {"free"}  # which is nowhere else
    assert "modified:" in dvc(root, "status")
    assert not list(root.glob(".*.part"))


def test_a_damaged_object_of_the_cache_is_not_believed(root: Path) -> None:
    """DVC itself takes it, for the hash that it should have, and would do so again and again."""
    whole = md5_of(root / "data/x/a")
    cached = root / f".dvc/cache/files/md5/{whole[:2]}/{whole[2:]}"
    for name in ("file", "list of files"):
        if name == "list of files":
            tree = md5_of(root / "data/x")
            cached = root / f".dvc/cache/files/md5/{tree[:2]}/{tree[2:]}"
        cached.chmod(0o644)
        flip(cached)
        cached.chmod(0o444)
        (root / "data/x/a").unlink()
        if name == "file":
            dvc(root, "checkout", "data/x")
            assert (root / "data/x/a").read_text() != "12345\n"
        else:
            (root / "data/x/a").write_text("1\n")
        assert bring_back(root)
        assert not cached.exists()
        assert "Running stage" in dvc(root, "repro")
        assert other_outs(root) == {} and not bring_back(root)
        assert cached.exists()


def test_what_can_be_had_nowhere_stays_as_it_is(root: Path) -> None:
    """A lock that names other outs, such as that of somebody's newer commit, costs nothing."""
    lock = (root / "dvc.lock").read_text()
    for name in ("data/x", "committed"):
        lock = lock.replace(md5_of(root / name).removesuffix(".dir"), "0" * 32)
    (root / "dvc.lock").write_text(lock)
    bring_back(root)
    assert (root / "data/x/a").read_text() == "12345\n"
    assert (root / "committed").read_text() == "of last week\n"
