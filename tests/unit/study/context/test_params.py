"""Settings: what is wrong, where, and what is allowed."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from study.context.declaration import read_yaml
from study.context.params import ParamsError, check_params, placement_after
from study.context.rules import EARLY_EPOCHS
from study.findings.learning import EARLY
from study.networks.masked import check_networks
from tests.support import ROOT

RAW = read_yaml(ROOT / "params.yaml")


def with_value(path: str, value: Any) -> Any:
    raw = copy.deepcopy(RAW)
    *keys, last = path.split(".")
    inner = raw
    for key in keys:
        inner = inner[key]
    inner[last] = value
    return raw


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("labels.noise.mixed", 1.5, "labels.noise.mixed: 1.5 is not allowed: it should be less than or equal to 1"),
        ("labels.noise", {"real": 0.0}, "labels.noise: no fraction of random labels for scenario 'mixed'"),
        ("labels.kind", "flip", "labels.kind: 'flip' is not allowed: it should be 'uniform', 'other', 'pair'"),
        ("training.epoch", 3, "training.epoch is not a setting: did you mean 'epochs'?"),
        ("zzz", 3, "zzz is not a setting; there are scenarios, placements"),
        ("training.epochs", "ten", "training.epochs: 'ten' is not allowed: it should be a valid integer"),
        ("training.epochs", True, "training.epochs: True is not allowed"),
        ("training.batch_size", 10**6, "training.batch_size: 1000000 is more than data.train="),
        (
            "training.device", "gpu",
            "training.device: 'gpu' is not allowed: it should be auto, cpu, cuda, cuda:N or mps",
        ),
        ("retrain.device", "auto", "retrain.device: 'auto' is not allowed: it should be cpu, cuda or cuda:N"),
        ("scenarios", ["A"], "scenarios.0: 'A' is not allowed: it should be lower-case letters, digits and _ only"),
        (
            "training.dynamics_epochs", [1, 2, 5, 15],
            "training.dynamics_epochs: [1, 2, 5, 15] is not allowed: it lacks 0, 3, and the findings measure",
        ),
        ("training.dynamics_epochs", [0, 2, 3], "it lacks 1, and the findings measure"),
        (
            "training.dynamics_epochs", [0, 1, 3, 99],
            "training.dynamics_epochs: 99 is not allowed: epochs run from 0 to 15",
        ),
        ("training.dynamics_epochs", [0, 1, 3, -1], "it should be greater than or equal to 0"),
        (
            "removal.scenarios", ["real", "mixd"],
            "removal.scenarios: 'mixd' is not allowed: it should be a scenario of labels.noise, real, mixed, random: "
            "did you mean 'mixed'?",
        ),
        ("removal.score", "probabilty", "removal.score: 'probabilty' is not allowed: it should be one of loss, "),
        ("removal.score", "probabilty", "did you mean 'probability'?"),
        ("removal.score", "split", "removal.score: 'split' is not allowed: it should be one of loss, probability,"),
        (
            "validation.validation_digits.dataset", "digit",
            "validation.validation_digits.dataset: 'digit' is not allowed: it should be one of fashion-mnist",
        ),
        ("validation.validation_digits.dataset", "digit", "did you mean 'digits'?"),
        ("training.keep_checkpoints", [99], "training.keep_checkpoints: 99 is more than training.epochs="),
        ("training.augmentation", {"crop": -1}, "training.augmentation.crop: -1 is not allowed: it should be greater"),
        ("training.augmentation", {"flop": True}, "training.augmentation.flop is not a setting: did you mean 'flip'?"),
        ("training.clip_norm", -1.0, "training.clip_norm: -1.0 is not allowed"),
        ("model.keep", 1.0, "model.keep: 1.0 is not allowed: it should be less than 1"),
        ("model.options", {"hidden": "x"}, "model.options.hidden: 'x' is not allowed"),
        ("seeds.head", [0, 0], "seeds.head: [0, 0] names something twice"),
        ("seeds.other", [], "seeds.other: [] is not allowed"),
        ("seeds.head", 0, "seeds.head: [] is not allowed"),
        ("seeds.head", True, "seeds.head: True is not allowed: it should be first-last"),
        ("seeds", [0, 1], "seeds: [0, 1] is not allowed: it should be a mapping with the keys head, other"),
        ("processes", 0, "processes: 0 is not allowed"),
        ("placements", ["dropout"], "placements: 'dropout' is only the control"),
        ("placements", ["a b"], "placements.0: 'a b' is not allowed: it should be head, all, dropout, or module names"),
        ("data.dataset", "imagenet", "data.dataset: 'imagenet' is not allowed: it should be one of fashion-mnist"),
        ("validation_sets", ["mixed"], "validation: there is no set 'mixed'"),
        ("validation_sets", ["kmnist"], "validation: there is no set 'kmnist'; it has ['validation',"),
        ("retrain.networks", 1, "retrain.networks: 1 is not allowed: it should be greater than or equal to 4"),
        ("estimate.influence.targets", 9999, "estimate.influence.targets: 9999 is more than data.heldout="),
        ("estimate.influence.sharpness", float("inf"), "estimate.influence.sharpness: inf is not allowed"),
        ("training.learning_rate", float("inf"), "training.learning_rate: inf is not allowed: it should be less than"),
        ("training.learning_rate", float("nan"), "training.learning_rate: nan is not allowed"),
        ("training.epochs", 10**30, "training.epochs: 1000000000000000000000000000000 is not allowed"),
        ("training.threads", 100_000, "training.threads: 100000 is not allowed"),
        ("training.augmentation", {"crop": 28}, "training.augmentation.crop: 28 is more than images of fashion-mnist"),
        ("data.seed", 2**64, "data.seed: 18446744073709551616 is not allowed: it should be less than 4294967296"),
        ("data.dataset", "folder:", "data.dataset: 'folder:' names no place: write folder:PATH"),
        ("model.options", {"seed": 3}, "model.options.seed is not a setting: it follows from the data and the seeds"),
        ("validation.validation.options", {"seed": 3}, "validation.validation.options.seed is not a setting"),
        ("model.options", {"hidden": 10**12}, "model.options.hidden: 1000000000000 is not allowed"),
        ("model.options", {"hidden": {}}, "model.options.hidden: {} is not allowed: it should be a valid integer"),
        ("model.options", {"hidden": {}}, "model.options.hidden: {} is not allowed: it should be a valid list"),
        ("processes", "two", "processes: 'two' is not allowed: it should be a valid integer"),
        ("processes", "two", "processes: 'two' is not allowed: it should be 'auto'"),
        ("training.dynamics_epochs", "two", "training.dynamics_epochs: 'two' is not allowed: it should be a valid"),
        ("training.dynamics_epochs", "two", "training.dynamics_epochs: 'two' is not allowed: it should be 'all' or"),
        ("data", {"\n": 1}, "data.'\\n' is not a setting; there are dataset"),
        ("placements", ["a+b", "b+a"], "placements: 'a+b' and 'b+a' are the same: leave one of them out"),
        ("placements", ["a+a"], "placements: 'a+a' names a module twice"),
        ("labels.noise", {"real": 0, "mixed": 0.2, "random": 0.2}, "scenarios: 'mixed' and 'random' are the same"),
        ("removal.fractions", [0.3, 0.3], "removal.fractions: [0.3, 0.3] names something twice"),
        ("removal.fractions", [0.3, 0.30001], "removal.fractions: '0.3' and '0.30001' are the same"),
        ("removal.fractions", [0.0001], "removal.fractions: 0.0001 of data.train=3000 is 0: it should be some"),
        ("retrain.fraction", 0.0001, "retrain.fraction: 0.0001 of validation.validation.train=2000 is 0"),
        ("comparison.folds", 5000, "comparison.folds: 5000 is not allowed"),
        ("validation_sets", ["true"], "validation_sets.0: 'true' is not allowed: it should be another name"),
        ("scenarios", ["007"], "scenarios.0: '007' is not allowed: it should be lower-case letters, digits and _ only"),
    ],
)  # fmt: skip
def test_a_wrong_setting_names_key_value_and_what_is_allowed(path: str, value: Any, message: str) -> None:
    with pytest.raises(ParamsError) as caught:
        check_params(with_value(path, value))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("training.dynamics_epochs", [0, 1, 3]),
        ("training.dynamics_epochs", [0, 1, 2, 3, 5, 15]),
        ("training.dynamics_epochs", "all"),
        ("training.device", "cuda:1"),
        ("removal.scenarios", ["random"]),
        ("removal.score", "sharpened"),
        ("validation.validation.dataset", "folder:somewhere"),
        ("data.dataset", "table:images.csv"),
    ],
)
def test_what_is_allowed_passes(path: str, value: Any) -> None:
    check_params(with_value(path, value))


@pytest.mark.parametrize(("epochs", "listed"), [(3, [0, 1]), (2, [0, 1]), (1, [0]), (5, [0, 1, 3])])
def test_the_last_epoch_is_recorded_without_being_asked_for(epochs: int, listed: list[int]) -> None:
    raw = with_value("training.epochs", epochs)
    raw["training"]["dynamics_epochs"] = listed
    check_params(raw)


@pytest.mark.parametrize(("epochs", "listed"), [(2, [1]), (2, [0]), (1, []), (9, [0, 1, 9])])
def test_the_epochs_that_the_findings_measure_must_be_recorded(epochs: int, listed: list[int]) -> None:
    raw = with_value("training.epochs", epochs)
    raw["training"]["dynamics_epochs"] = listed
    with pytest.raises(ParamsError, match="training.dynamics_epochs: .* it lacks"):
        check_params(raw)


def test_folds_are_no_more_than_examples() -> None:
    raw = with_value("validation.validation_digits.train", 100)
    raw["comparison"]["folds"] = 101
    with pytest.raises(
        ParamsError, match=re.escape("comparison.folds: 101 is more than validation.validation_digits.")
    ):
        check_params(raw)


def test_a_huge_value_is_told_in_short_and_so_are_many_mistakes() -> None:
    value: Any = "bomb"
    for _ in range(40):
        value = [value, value]  # as aliases of YAML make it: 2 to the 40 words
    with pytest.raises(ParamsError, match="training.epochs") as caught:
        check_params(with_value("training.epochs", value))
    assert len(str(caught.value)) < 500
    with pytest.raises(ParamsError, match="training.epochs: a very long int is not allowed: it should be less than"):
        check_params(with_value("training.epochs", 16**5000))
    with pytest.raises(ParamsError, match="and 80 more mistakes") as caught:
        check_params(with_value("scenarios", ["A"] * 100))
    assert len(str(caught.value).splitlines()) == 21


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: \xff", "params.yaml is not valid YAML: line 1 is not UTF-8"),
        (b"[" * 100_000, "params.yaml is not valid YAML: it is nested too deeply"),
        (b"a: 2001-13-45", "params.yaml is not valid YAML: "),
        (b"a: [", "params.yaml is not valid YAML: "),
        (b"a: 1\na: 2", "params.yaml is not valid YAML: "),
        (b"a: " + b"9" * 5000, "params.yaml is not valid YAML: ValueError: "),
    ],
)
def test_a_file_that_is_no_yaml(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "params.yaml").write_bytes(content)
    with pytest.raises(ParamsError) as caught:
        read_yaml(tmp_path / "params.yaml")
    assert str(caught.value).startswith(message)


def test_a_folder_in_the_place_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").mkdir()
    with pytest.raises(ParamsError, match="params.yaml cannot be read: Is a directory"):
        read_yaml(tmp_path / "params.yaml")


def test_removals_need_a_scenario_that_runs() -> None:
    raw = with_value("scenarios", ["random"])
    with pytest.raises(ParamsError, match="removal.scenarios: none of real, mixed is in scenarios, random"):
        check_params(raw)


def test_the_epochs_that_must_be_recorded_are_those_of_the_findings() -> None:
    assert EARLY_EPOCHS == (0, 1, EARLY)


def test_settings_are_checked_without_torch() -> None:
    code = "import sys; from study.context.runs import load_params; from pathlib import Path; load_params(Path('.')); "
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], cwd=ROOT, check=True)


def test_a_missing_setting_is_named() -> None:
    raw = copy.deepcopy(RAW)
    del raw["training"]["epochs"]
    with pytest.raises(ParamsError, match="training.epochs is missing"):
        check_params(raw)


def test_every_mistake_gets_a_line() -> None:
    raw = with_value("training.epochs", 0)
    raw["data"]["train"] = 0
    with pytest.raises(ParamsError) as caught:
        check_params(raw)
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("placements", ["layer9"], "placements: 'layer9' is not possible: after names no module of the model"),
        ("model.name", "resnet19", "model.name='resnet19' is not known (did you mean resnet"),
        ("model.options", {"hiden": 3}, "model.hiden: 'cnn' has no such setting; it has channels, hidden"),
        ("model.options", {"channels": [4] * 9}, "give fewer channels"),
        ("model.options", {"channels": [60_000, 60_000]}, "model.options: this network has 33,"),
        (
            "validation.validation.options",
            {"hidden": 0},
            "validation.validation.options: model.hidden=0 is not allowed",
        ),
        (
            "validation.validation_digits.options",
            {"wide": 3},
            "validation.validation_digits.options: model.wide: 'mlp'",
        ),
    ],
)
def test_a_network_that_cannot_be_built_is_refused_before_any_work(path: str, value: Any, message: str) -> None:
    with pytest.raises(ParamsError) as caught:
        check_networks(check_params(with_value(path, value)))
    assert message in str(caught.value)


def test_placements_as_arguments_of_insert() -> None:
    assert placement_after("head") == "head"
    assert placement_after("all") == "all"
    assert placement_after("features.2+hidden") == ["features.2", "hidden"]
    assert placement_after("hidden") == ["hidden"]


def test_a_number_of_seeds_stands_for_the_first_ones() -> None:
    raw = read_yaml(ROOT / "params.yaml")
    raw["seeds"] = {"head": 3, "other": [7]}
    checked = check_params(raw)
    assert checked.seeds.of("head") == [0, 1, 2]
    assert checked.seeds.of("all") == checked.seeds.of("dropout") == [7]


def test_the_first_and_the_last_seed_stand_for_those_between() -> None:
    raw = read_yaml(ROOT / "params.yaml")
    raw["seeds"] = {"head": "8-11", "other": "7-7"}
    checked = check_params(raw)
    assert checked.seeds.of("head") == [8, 9, 10, 11]
    assert checked.seeds.of("all") == [7]


@pytest.mark.parametrize("seeds", ["11-8", "8-", "eight", 0, "0-99999999999999999", 10**30, [], [-1]])
def test_seeds_that_are_none(seeds: object) -> None:
    raw = read_yaml(ROOT / "params.yaml")
    raw["seeds"] = {"head": seeds, "other": [7]}
    with pytest.raises(ParamsError, match="seeds.head"):
        check_params(raw)
