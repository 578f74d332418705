"""What `make repro` does first: check, and clear away what nobody asks for any more."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from study.commands import prepare as prepare_module
from study.commands.prepare import leftovers, prepare
from study.context.params import ParamsError
from study.context.runs import load_params
from tests.support import ROOT


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    for name in (
        "data/raw/x", "data/mixed/x", "data/gone/x", "data/validation/x",
        "models/mixed-head-0/x", "models/mixed-dropout-0/x",
        "models/mixed-head-99/x", "dynamics/mixed-head-0.parquet", "dynamics/mixed-dropout-0.parquet",
        "scores/gone-head-0/x", "scores/real-all-0/x", "reports/metrics/train/mixed-head-0.csv",
        "reports/metrics/train/mixed-head-99.json", "reports/metrics/estimate/real-head-0.json",
        "reports/metrics/summary.json", "models/.gitignore",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


EXPECTED = {
    "data/gone",
    "models/mixed-head-99",
    "dynamics/mixed-dropout-0.parquet",
    "scores/gone-head-0",
    "reports/metrics/train/mixed-head-99.json",
}


def test_leftovers_are_exactly_what_no_run_of_params_owns(root: Path) -> None:
    found = {path.relative_to(root).as_posix() for path in leftovers(root, load_params(root))}
    assert found == EXPECTED


def test_preparing_removes_them_and_says_so(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(root)
    said = capsys.readouterr().out
    assert all(f"removing {name}:" in said for name in EXPECTED)
    assert not leftovers(root, load_params(root))
    assert (root / "models/mixed-head-0/x").exists()


@pytest.mark.parametrize(("argument", "status"), [("--help", 0), ("--dry", 2), ("data", 2)])
def test_asking_for_help_or_for_what_there_is_not_removes_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], argument: str, status: int
) -> None:
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "argv", ["prepare", argument])
    with pytest.raises(SystemExit) as ended:
        prepare_module.main()
    assert ended.value.code == status
    said = capsys.readouterr()
    assert "python -m study.commands.prepare" in said.out + said.err
    assert (root / "data/gone").exists()
    monkeypatch.setattr(sys, "argv", ["prepare"])
    assert prepare_module.main() == 0
    assert not (root / "data/gone").exists()


def test_a_wrong_setting_removes_nothing(root: Path) -> None:
    text = (root / "params.yaml").read_text().replace("placements: [head, all]", "placements: [heads]")
    (root / "params.yaml").write_text(text)
    with pytest.raises(ParamsError, match="'heads' is not possible"):
        prepare(root)
    assert (root / "data/gone").exists()
