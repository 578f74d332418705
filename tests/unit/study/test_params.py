"""Settings: what is wrong, where, and what is allowed."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from study.context import read_yaml
from study.networks import check_networks
from study.params import ParamsError, check_params, placement_after

RAW = read_yaml(Path(__file__).resolve().parents[3] / "params.yaml")


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
        ("labels.kind", "flip", "labels.kind: 'flip' is not allowed: it should be 'uniform', 'other' or 'pair'"),
        ("training.epoch", 3, "training.epoch is not a setting: did you mean 'epochs'?"),
        ("zzz", 3, "zzz is not a setting; there are scenarios, placements"),
        ("training.epochs", "ten", "training.epochs: 'ten' is not allowed: it should be a valid integer"),
        ("training.epochs", True, "training.epochs: True is not allowed"),
        ("training.batch_size", 10**6, "training.batch_size: 1000000 is more than data.train="),
        ("training.device", "gpu", "training.device: 'gpu' is not allowed"),
        ("model.keep", 1.0, "model.keep: 1.0 is not allowed: it should be less than 1"),
        ("model.options", {"hidden": "x"}, "model.options.hidden: 'x' is not allowed"),
        ("seeds", [0, 0], "seeds: [0, 0] names something twice"),
        ("seeds", [], "seeds: [] is not allowed"),
        ("seeds", 3, "seeds: 3 is not allowed: it should be a valid list"),
        ("placements", ["dropout"], "placements: 'dropout' is the control's name"),
        ("placements", ["a b"], "placements.0: 'a b' is not allowed"),
        ("data.dataset", "imagenet", "data.dataset: 'imagenet' is not allowed: it should be one of fashion-mnist"),
        ("validation_sets", ["mixed"], "validation_sets: 'mixed' is the name of something else under data/"),
        ("validation_sets", ["kmnist"], "validation: there is no set 'kmnist'; it has ['validation',"),
        ("retrain.networks", 1, "retrain.networks: 1 is not allowed: it should be greater than or equal to 4"),
        ("estimate.influence.targets", 9999, "estimate.influence.targets: 9999 is more than data.heldout="),
    ],
)
def test_a_wrong_setting_names_key_value_and_what_is_allowed(path: str, value: Any, message: str) -> None:
    with pytest.raises(ParamsError) as caught:
        check_params(with_value(path, value))
    assert message in str(caught.value)


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
