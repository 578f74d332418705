"""What `make repro` does first: check, and clear away what nobody asks for any more."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from study.commands import prepare as prepare_module
from study.commands.prepare import leftovers, prepare
from study.context.params import ParamsError
from study.context.runs import load_params
from study.networks import masked
from tests.support import ROOT


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    for name in (
        "data/raw/x", "data/scenarios/mixed/x", "data/scenarios/gone/x", "data/validation/validation/x", 
        "data/mine/x", "runs/Nov27_host/events.out", "scores/game/x",
       
        "runs/mixed/head/0/x", "runs/mixed/dropout/0/x", "runs/mixed/hidden/0/x", "runs/gone/head/0/model.json",
        "made-by/mixed-head.json", "made-by/mixed-hidden.json", "runs/.gitignore", "made-by/.gitignore",
        "scores/gone/head/0/memorization.parquet", "scores/real/all/0/x", "scores/real/dropout/0/x",
        "reports/curves/mixed-head.csv",
        "reports/curves/gone-head.csv", "reports/metrics/summary.json", "reports/validation/validation/x",
        "reports/validation/another/x",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


EXPECTED = {
    "data/scenarios/gone",
    "runs/mixed/hidden",
    "runs/gone",
    "made-by/mixed-hidden.json",
    "scores/gone",
    "scores/real/dropout",
    "reports/curves/gone-head.csv",
    "reports/validation/another",
}


def test_leftovers_are_exactly_what_no_run_of_params_owns(root: Path) -> None:
    found = {path.relative_to(root).as_posix() for path in leftovers(root, load_params(root))}
    assert found == EXPECTED


def test_preparing_removes_them_and_says_so(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(root)
    said = capsys.readouterr().out
    assert all(f"removing {name}:" in said for name in EXPECTED)
    assert not leftovers(root, load_params(root))
    assert (root / "runs/mixed/head/0/x").exists()


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
    assert (root / "data/scenarios/gone").exists()
    monkeypatch.setattr(sys, "argv", ["prepare"])
    assert prepare_module.main() == 0
    assert not (root / "data/scenarios/gone").exists()


def test_a_wrong_setting_removes_nothing(root: Path) -> None:
    text = (root / "params.yaml").read_text().replace("placements: [head, all, dropout]", "placements: [heads]")
    (root / "params.yaml").write_text(text)
    with pytest.raises(ParamsError, match="'heads' is not possible"):
        prepare(root)
    assert (root / "data/scenarios/gone").exists()


def test_settings_once_found_right_are_not_built_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    check = masked.check_networks
    monkeypatch.setattr(masked, "check_networks", lambda params: (built.append(params.model.name), check(params)))
    prepare(root)
    prepare(root)
    assert built == ["cnn"]
    text = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(
        text.replace("  name: cnn", "  name: mlp").replace("channels: [16, 32, 64], ", "", 1)
    )
    prepare(root)
    assert built == ["cnn", "mlp"]
