"""`make repro` writes DVC's lock as a whole, mends a damaged one, and clears what a dead DVC left."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from study.commands.repro import clear_rwlock, go_without_git, mend_lock
from study.context.declaration import read_yaml
from tests.support import ROOT

LOCK = (ROOT / "dvc.lock").read_bytes()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "dvc.lock").write_bytes(LOCK)
    for command in (
        ["git", "init", "--quiet"],
        ["git", "add", "dvc.lock"],
        ["git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-m", "x"],
    ):
        subprocess.run(command, cwd=tmp_path, check=True)
    return tmp_path


def test_a_whole_lock_stays_as_it_is(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hashes = LOCK.index(b"md5: ") + len("md5: ")
    other = LOCK[:hashes] + (b"1" if LOCK[hashes : hashes + 1] == b"0" else b"0") + LOCK[hashes + 1 :]
    (root / "dvc.lock").write_bytes(other)
    mend_lock(root)
    assert (root / "dvc.lock").read_bytes() == other
    (root / "dvc.lock").unlink()  # somebody wants every stage to run
    mend_lock(root)
    assert not (root / "dvc.lock").exists()
    assert capsys.readouterr().err == ""


def test_a_lock_that_was_cut_off_is_taken_from_the_last_commit(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At any place but behind a whole entry, where DVC runs the stages that are not in it."""
    places = random.Random(0).sample(range(len(LOCK)), 30)
    for place in (0, 1, *places):
        (root / "dvc.lock").write_bytes(LOCK[:place])
        mend_lock(root)
        if (root / "dvc.lock").read_bytes() != LOCK:
            assert LOCK[:place].endswith(b"\n")
    assert capsys.readouterr().err.count("warning: dvc.lock was damaged") > 25


def test_a_lock_with_another_bit_is_mended_or_one_that_dvc_reads(root: Path) -> None:
    """Also one that is no UTF-8 any more, or has another schema, key or kind of hash."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA

    whole = LOCK[: LOCK.index(b"\n  validation_data@") + 1]  # the first stage
    (root / "dvc.lock").write_bytes(whole)
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qam", "x"], cwd=root, check=True)
    mended = 0
    for place in range(0, len(whole), 7):
        other = whole[place] ^ 1 << place % 8
        (root / "dvc.lock").write_bytes(whole[:place] + bytes([other]) + whole[place + 1 :])
        mend_lock(root)
        mended += (root / "dvc.lock").read_bytes() == whole
        (stage,) = COMPILED_LOCKFILE_SCHEMA(read_yaml(root / "dvc.lock"))["stages"].values()
        assert all(len(part["md5"].removesuffix(".dir")) == 32 for part in [*stage["deps"], *stage["outs"]])
    assert mended > len(whole) / 7 / 2


def test_without_another_lock_it_goes_on_without_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dvc.lock").write_text("schema")
    mend_lock(tmp_path)
    assert not (tmp_path / "dvc.lock").exists()
    assert "dvc.lock was damaged, and git has no other" in capsys.readouterr().err


@pytest.mark.parametrize("inside", ["nothing", "a project that ignores it"])
def test_a_download_without_git_is_for_dvc_a_project_without_scm(
    inside: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if inside != "nothing":
        subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
        (tmp_path / ".gitignore").write_text("build/\n")
        tmp_path = tmp_path / "build/ours"
        tmp_path.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    analytics = false\n")
    (tmp_path / ".dvc/config.local").write_text("[cache]\n    type = copy\n")
    (tmp_path / "dvc.yaml").write_text("stages:\n  one:\n    cmd: echo 1 > out\n    outs: [out]\n")
    go_without_git(tmp_path)
    assert "there is no git here" in capsys.readouterr().err
    go_without_git(tmp_path)
    assert capsys.readouterr().err == "", "said once"
    done = subprocess.run([sys.executable, "-m", "dvc", "repro"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    settings = (tmp_path / ".dvc/config.local").read_text()
    assert "type = copy" in settings and settings.count("no_scm") == 1


def test_with_git_above_dvc_s_settings_stay_as_they_are(root: Path) -> None:
    (root / "below/.dvc").mkdir(parents=True)
    go_without_git(root / "below")
    assert not (root / "below/.dvc/config.local").exists()


def test_a_damaged_lock_where_git_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "dvc.lock").write_text("schema")
    mend_lock(tmp_path)
    assert not (tmp_path / "dvc.lock").exists()


def test_dvc_replaces_its_lock_as_a_whole(tmp_path: Path) -> None:
    """DVC's own writer, killed when all but the name was written: what stood there stands there."""
    script = """
import os, sys
from study.commands.repro import write_whole_files
write_whole_files()
from dvc.utils.serialize import modify_yaml
if sys.argv[1] == "die":
    os.replace = lambda *_: os._exit(9)
with modify_yaml("dvc.lock") as data:
    data["stages"] = {sys.argv[1]: 1}
"""
    path = tmp_path / "dvc.lock"
    path.write_text("schema: '2.0'\nstages: {}\n")
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    for how, status, holds in (("live", 0, "live: 1"), ("die", 9, "live: 1")):
        done = subprocess.run(
            [sys.executable, "-c", script, how], cwd=tmp_path, env=env, capture_output=True, text=True
        )
        assert done.returncode == status, done.stderr
        assert holds in path.read_text() and path.read_text().endswith("\n")


@pytest.mark.parametrize("left", ["cut", "empty", "reused", "gone", "alive", "ours", "later"])
def test_what_a_dead_dvc_noted_is_cleared(tmp_path: Path, left: str) -> None:
    path = tmp_path / "rwlock"
    name = "dvc" if left in ("alive", "later") else "x"
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", name])
    try:
        pid = {"gone": 2**22 + 1, "ours": os.getpid()}.get(left, sleeper.pid)
        text = json.dumps({"write": {"/x": {"pid": pid, "cmd": "dvc repro"}}, "read": {}})
        path.write_text({"cut": text[:20], "empty": ""}.get(left, text))
        if left == "later":  # another DVC has the number by now
            os.utime(path, (1e9, 1e9))
        clear_rwlock(path)
        assert path.exists() == (left == "alive")
        clear_rwlock(path)  # also where there is none
    finally:
        sleeper.kill()
        sleeper.wait()
