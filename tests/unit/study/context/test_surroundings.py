"""Folders and code that the pipeline must not work in or with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from study.context.stage import Stage, run_stage
from study.context.surroundings import check_code, check_place
from tests.support import ROOT
from turnover.errors import UserError

CHECK = "from pathlib import Path; from study.context.surroundings import check_code; check_code(Path('.').absolute())"


def test_a_folder_that_dvc_cannot_work_in_is_refused(tmp_path: Path) -> None:
    for name in ("a b", "Jörg's", "50%", '$HOME "x" [y]'):
        check_place(tmp_path / name)
    with pytest.raises(UserError, match="DVC cannot work below a folder whose name holds a brace: rename /x/{y}"):
        check_place(Path("/x/{y}"))


def test_a_locale_that_cannot_write_the_folder_s_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "iso8859-1")
    check_place(Path("/x/y"))
    with pytest.raises(UserError, match="/x/Jörg needs UTF-8, but the locale's encoding is iso88591: set PYTHONUTF8=1"):
        check_place(Path("/x/Jörg"))


def code(folder: Path, *paths: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    return subprocess.run([sys.executable, "-c", CHECK], cwd=folder, env=env, capture_output=True, text=True)


@pytest.mark.parametrize("package", ["study", "turnover"])
def test_other_code_than_that_of_the_folder_is_refused(tmp_path: Path, package: str) -> None:
    for name in ("study", "turnover"):
        shutil.copytree(ROOT / "src" / name, tmp_path / "src" / name)
    assert code(tmp_path, tmp_path / "src").returncode == 0
    assert code(tmp_path, ROOT / "src").returncode == 0, "a copy of the same code"
    (tmp_path / "src" / package / "more.py").touch()
    assert code(tmp_path, tmp_path / "src", ROOT / "src").returncode == 0
    done = code(tmp_path, ROOT / "src", tmp_path / "src")
    assert f"UserError: {package} is imported from {ROOT / 'src' / package}, which is other code than" in done.stderr
    assert "unset PYTHONPATH" in done.stderr


def test_neither_a_stage_nor_the_step_that_removes_works_with_other_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from study.commands.prepare import prepare

    (tmp_path / "src/study").mkdir(parents=True)
    (tmp_path / "src/study/old.py").touch()
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "data/scenarios/gone").mkdir(parents=True)

    def body(stage: Stage) -> None:
        raise AssertionError("it must not run")

    assert run_stage(body, "figures", {}, root=tmp_path) == 1
    assert "error: study is imported from" in capsys.readouterr().err
    with pytest.raises(UserError, match="study is imported from"):
        prepare(tmp_path)
    assert (tmp_path / "data/scenarios/gone").exists()


def test_a_folder_without_code_uses_what_is_installed(tmp_path: Path) -> None:
    check_code(tmp_path)
