"""The study's networks: built, saved, loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from study.context.params import ModelParams
from study.context.runs import CONTROL, Run
from study.networks.masked import Architecture, load_network, load_snapshots, make_network, save_network
from turnover.errors import UserError
from turnover.masking.layer import masked_layers
from turnover.masking.subnetworks import subnetwork

MODEL = ModelParams(name="cnn", options={"channels": [4, 8], "hidden": 32}, keep=0.5)


def architecture(placement: str = "head", seed: int = 0) -> Architecture:
    return Architecture(Run("mixed", placement, seed), MODEL, (1, 8, 8), ("a", "b", "c"), (0.4,), (0.3,))


X = torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("placement", "layers"), [("head", 1), ("all", 3), ("features.2+activation", 2), (CONTROL, 0)])
def test_the_placement_decides_which_layers_are_masked(placement: str, layers: int) -> None:
    assert len(masked_layers(make_network(architecture(placement)))) == layers


@pytest.mark.parametrize("placement", ["head", "all", CONTROL])
def test_a_network_comes_back_as_it_was_saved(tmp_path: Path, placement: str) -> None:
    description = architecture(placement)
    network = make_network(description)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.01)
    save_network(network, description, tmp_path / "net")
    again, description_again = load_network(tmp_path / "net")
    assert description_again == description
    network.eval(), again.eval()
    assert torch.equal(network(X), again(X))
    if placement != CONTROL:
        with subnetwork(network, torch.arange(6)):
            expected = network(X)
        with subnetwork(again, torch.arange(6)):
            assert torch.equal(again(X), expected)
        assert not torch.equal(expected, network(X))


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_network(make_network(architecture()), architecture(), tmp_path / name)
    for file in ("model.safetensors", "model.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_snapshots_stand_beside_the_network_and_fit_it(tmp_path: Path) -> None:
    network = make_network(architecture())
    first, start = network(X), {key: value.clone() for key, value in network.state_dict().items()}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.01)
    save_network(network, architecture(), tmp_path / "net", {9: start, 10: network.state_dict()})
    again, _ = load_network(tmp_path / "net")
    assert torch.equal(again(X), network(X))
    found = dict(load_snapshots(tmp_path / "net"))
    assert list(found) == [9, 10]
    again.load_state_dict(found[9])
    assert torch.equal(again(X), first)


def test_seeds_and_placements_start_from_weights_as_they_should() -> None:
    def start(placement: str, seed: int) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in make_network(architecture(placement, seed)).parameters()])

    assert torch.equal(start("head", 0), start("all", 0))
    assert torch.equal(start("head", 0), start(CONTROL, 0))
    assert not torch.equal(start("head", 0), start("head", 1))


def test_the_control_drops_units_in_training_only() -> None:
    network = make_network(architecture(CONTROL))
    network.eval()
    assert torch.equal(network(X), network(X))
    network.train()
    assert not torch.equal(network(X), network(X))


def test_a_corrupt_network_is_an_error_with_the_cure(tmp_path: Path) -> None:
    save_network(make_network(architecture()), architecture(), tmp_path / "net")
    path = tmp_path / "net" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"net is missing or corrupt .* run `dvc repro`"):
        load_network(tmp_path / "net")
