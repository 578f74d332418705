"""The pipeline at another size: settings laid over params.yaml in a copy, results collected, the original untouched."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from study.commands import full, variants
from study.context.declaration import read_yaml
from study.context.params import Params, check_params
from study.context.runs import load_params
from tests.support import ROOT
from turnover.errors import UserError


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    (root / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    (root / "dvc.lock").write_text("default\n")
    for command in (["init", "--quiet"], ["add", "."]):
        subprocess.run(["git", *command], cwd=root, check=True)
    commit = ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "--message", "x"]
    subprocess.run(["git", *commit], cwd=root, check=True)
    return root


def test_the_committed_configuration_is_valid_and_uses_every_image() -> None:
    checked = _checked(full.read_config(ROOT / "configs/full.yaml"))
    assert checked.data.train + checked.data.placebo == 60_000
    assert checked.model.keep == load_params(ROOT).model.keep, "what is not named stays"


def _checked(changes: dict[str, Any]) -> Params:
    params = read_yaml(ROOT / "params.yaml")
    full.overlay(params, changes)
    return check_params(params)


def test_the_papers_data_are_a_configuration_with_its_own_placement() -> None:
    checked = _checked(full.read_config(ROOT / "configs/mnist.yaml"))
    assert checked.data.dataset == "mnist" and {"head", "all"} <= set(checked.placements)


def test_every_variant_is_allowed_and_changes_something() -> None:
    config = full.read_config(ROOT / "configs/variants.yaml")
    common = _checked(config["common"])
    found = {name: _checked(variants.settings_of(config, name)) for name in config["variants"]}
    assert all(of != common for of in found.values())
    assert found["large"].data.train == 10_000 and found["large"].seeds == common.seeds
    for name, of in config["variants"].items():
        changed = read_yaml(ROOT / "params.yaml")
        before = variants.value_of(changed, of["varies"])
        full.overlay(changed, variants.settings_of(config, name))
        assert variants.value_of(changed, of["varies"]) != before, f"{name} says what it varies"
    assert found["random-60"].labels.noise == {**common.labels.noise, "mixed": 0.6}
    assert common.data.train == load_params(ROOT).data.train, "no variant changes what is common"


def test_a_variant_keeps_its_findings_and_what_made_them(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[dict[str, Any], tuple[str, ...]]] = []

    def pretend(root: Path, folder: Path, changes: dict[str, Any], source: str, *targets: str) -> None:
        asked.append((changes, targets))
        repository.rename(folder)
        (folder / "reports/metrics/findings").mkdir(parents=True)
        (folder / "reports/metrics/findings.json").write_text("{}")
        (folder / "reports/metrics/findings/effects.csv").write_text("finding")

    root = tmp_path / "here"
    (root / "configs").mkdir(parents=True)
    (root / "build/variants").mkdir(parents=True)
    for name in ("configs/variants.yaml", "params.yaml"):
        (root / name).write_bytes((ROOT / name).read_bytes())
    monkeypatch.setattr(variants, "run_copy", pretend)
    variants.run(root, ["small"])
    assert asked[0][0]["data"] == {"train": 1000} and asked[0][1] == ("findings",)
    made = json.loads((root / "reports/variants/small/made-by.json").read_text())
    assert made["about"] == "1,000 training examples" and made["settings"] == "variants.yaml, small"
    assert (made["varies"], made["value"], made["default"], made["place"]) == ("data.train", 1000, 3000, 3)
    assert {path.name for path in (root / "reports/variants/small").iterdir()} == {
        "findings.json", "effects.csv", "made-by.json",
    }  # fmt: skip
    with pytest.raises(UserError, match="there is no variant 'huge'; there are random-10"):
        variants.run(root, ["huge"])


def test_the_value_of_a_setting_is_a_number_or_how_many() -> None:
    params = read_yaml(ROOT / "params.yaml")
    assert variants.value_of(params, "labels.noise.mixed") == 0.2
    assert variants.value_of(params, "model.options.channels") == 3
    assert variants.value_of(params, "training.augmentation.translate") == 0, "params.yaml does not name it"
    for setting in ("data.trian", "data.dataset", "training.augmentation.flip", "data.train.more"):
        with pytest.raises(
            UserError, match=f"variants.yaml: '{setting}' should be a setting that is a number or a list"
        ):
            variants.value_of(params, setting)


def test_a_copy_has_no_variants_of_the_default_settings(repository: Path, tmp_path: Path) -> None:
    for name in ("README.md", "small/findings.json"):
        (repository / "reports/variants" / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / "reports/variants" / name).write_text("{}")
    subprocess.run(["git", "add", "."], cwd=repository, check=True)
    commit = ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "--message", "x"]
    subprocess.run(["git", *commit], cwd=repository, check=True)
    for _ in range(2):  # made, and updated
        full.make_copy(repository, tmp_path / "copy", {}, "none.yaml")
        assert [path.name for path in (tmp_path / "copy/reports/variants").iterdir()] == ["README.md"]


def test_namespaces_merge_and_options_are_replaced() -> None:
    params: dict[str, Any] = {"data": {"train": 1, "seed": 0}, "model": {"options": {"channels": [1]}}, "seeds": [0, 1]}
    full.overlay(params, {"data": {"train": 2}, "model": {"options": {"layers": 3}}, "seeds": [5]})
    assert params == {"data": {"train": 2, "seed": 0}, "model": {"options": {"layers": 3}}, "seeds": [5]}


def test_a_copy_has_the_settings_and_goes_on_where_it_was(repository: Path, tmp_path: Path) -> None:
    config = tmp_path / "big.yaml"
    config.write_text("data: {train: 58000}\n")
    before = (repository / "params.yaml").read_bytes()
    copy = tmp_path / "copy"
    full.make_copy(repository, copy, full.read_config(config), config.name)
    assert load_params(copy).data.train == 58_000
    assert (copy / "dvc.lock").read_text() == "default\n"
    (copy / "dvc.lock").write_text("of the copy\n")
    config.write_text("data: {train: 50000}\n")
    full.make_copy(repository, copy, full.read_config(config), config.name)
    assert load_params(copy).data.train == 50_000
    assert (copy / "dvc.lock").read_text() == "of the copy\n"
    assert (repository / "params.yaml").read_bytes() == before
    assert not subprocess.run(["git", "status", "--porcelain"], cwd=repository, capture_output=True).stdout


def test_results_are_collected_whole_but_for_what_is_too_large(repository: Path, tmp_path: Path) -> None:
    copy = repository.rename(tmp_path / "copy")
    reports = copy / "reports"
    for name, size in (
        ("index.html", 9),
        ("figures/a.svg", 9),
        ("headline.json", 9),
        ("curves/real-head.csv", 9),
        ("validation/validation/table.csv", 9),
        ("figures/c.png", 3_000_001),
    ):
        (reports / name).parent.mkdir(parents=True, exist_ok=True)
        (reports / name).write_bytes(b"x" * size)
    target = tmp_path / "root/reports/full"
    target.mkdir(parents=True)
    (target / "old.svg").write_text("from the run before")
    assert full.collect(copy, target, "big.yaml") == ["reports/figures/c.png"]
    found = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    results = {"index.html", "figures/a.svg", "headline.json", "curves/real-head.csv"}
    assert found == {*results, "validation/validation/table.csv", "dvc.lock", "made-by.json"}
    made = json.loads((target / "made-by.json").read_text())
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=copy, capture_output=True, text=True, check=True).stdout
    assert made["commit"] == commit.strip()
    assert made["dvc_lock_sha256"] == hashlib.sha256(b"default\n").hexdigest()
    assert made["settings"] == "big.yaml"


@pytest.mark.parametrize("which", ["the repository itself", "another one"])
def test_no_other_repository_is_taken_for_a_copy(repository: Path, tmp_path: Path, which: str) -> None:
    config = tmp_path / "big.yaml"
    config.write_text("seeds: {head: 2}\n")
    folder = repository if which == "the repository itself" else tmp_path / "other"
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    (folder / "params.yaml").write_text("mine")
    with pytest.raises(UserError, match="is another repository, not a copy of"):
        full.make_copy(repository, folder, full.read_config(config), config.name)
    assert (folder / "params.yaml").read_text() == "mine"


def test_every_committed_run_says_what_made_it() -> None:
    for report in ROOT.glob("reports/*/index.html"):
        made = json.loads((report.parent / "made-by.json").read_text(encoding="utf-8"))
        assert {"commit", "date", "dvc_lock_sha256", "settings", "machine"} <= made.keys()


def test_a_wrong_configuration_is_one_sentence(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "wrong.yaml"
    config.write_text("trainings: {epochs: 3}\n")
    monkeypatch.chdir(repository)
    monkeypatch.setattr("sys.argv", ["full", str(config), "--folder", str(tmp_path / "copy")])
    assert full.main() == 1
    assert "error: wrong.yaml: trainings is not a setting: did you mean 'training'?" in capsys.readouterr().err
