"""Outs that were damaged behind DVC's back, with size and time kept, are brought back, or are looked at again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from study.commands.damage import bring_back, md5_of, other_outs
from study.context.declaration import read_yaml
from tests.support import ROOT

PIPELINE = """
stages:
  data:
    cmd: mkdir -p data/x && echo 12345 > data/x/a && echo 7 > data/x/b && echo plain > free
    outs: [data/x]
    metrics:
      - free:
          cache: false
"""


def dvc(folder: Path, *arguments: str) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["dvc", *arguments], cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True
    )
    return done.stdout


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


def test_what_dvc_does_not_see_is_brought_back_or_made_visible(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    dvc(tmp_path, "init", "--no-scm")
    dvc(tmp_path, "repro")
    bring_back(tmp_path)
    assert capsys.readouterr().err == ""
    flip(tmp_path / "data/x/a")
    flip(tmp_path / "free")
    assert "up to date" in dvc(tmp_path, "status")
    assert other_outs(tmp_path) == ["data/x", "free"]
    bring_back(tmp_path)
    assert (tmp_path / "data/x/a").read_text() == "12345\n"
    assert "data/x was not what dvc.lock says" in capsys.readouterr().err
    assert other_outs(tmp_path) == ["free"]  # which is in no cache
    assert "modified:" in dvc(tmp_path, "status")


def test_what_is_in_no_cache_stays_where_it_is(tmp_path: Path) -> None:
    """A lock that is of other outs, such as somebody's newer commit, costs nothing."""
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    dvc(tmp_path, "init", "--no-scm")
    dvc(tmp_path, "repro")
    lock = (tmp_path / "dvc.lock").read_text()
    (tmp_path / "dvc.lock").write_text(lock.replace(md5_of(tmp_path / "data/x"), "0" * 32 + ".dir"))
    bring_back(tmp_path)
    assert (tmp_path / "data/x/a").read_text() == "12345\n"
