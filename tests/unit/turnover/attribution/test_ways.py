"""Which way of scoring a network takes, and that cutting networks out equals masking them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from study.networks.zoo.small import CNN, MLP
from tests.unit.turnover.attribution.networks import CLASSES, brute_force, examples, network
from turnover.attribution.any_network import GeneralScorer
from turnover.attribution.chain import read_chain
from turnover.attribution.head import HeadScorer
from turnover.attribution.influence import influence, make_scorer
from turnover.attribution.slim import SlimScorer
from turnover.masking.insertion import insert
from turnover.masking.layer import TurnOverDropout

IDS = torch.arange(6)


@pytest.mark.parametrize(
    ("kind", "way"),
    [("head", HeadScorer), ("all", SlimScorer), ("mlp", SlimScorer), ("residual", GeneralScorer)],
)
def test_the_way_taken(kind: str, way: type) -> None:
    x, y = examples(40)
    assert isinstance(make_scorer(network(kind), IDS, x, y, "loss", "float32"), way)


def test_few_targets_do_not_pay_for_cutting() -> None:
    x, y = examples(3)
    assert isinstance(make_scorer(network("all"), IDS, x, y, "loss", "float32"), GeneralScorer)


@pytest.mark.parametrize("model", [CNN((1, 28, 28), 10), MLP((1, 28, 28), 10, hidden=16)])
def test_the_zoo_is_made_of_chains(model: nn.Module) -> None:
    assert read_chain(insert(model, after="all")) is not None


def sequential(*middle: nn.Module) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, last = nn.Conv2d(1, 6, 3), nn.LazyLinear(CLASSES)
        model = nn.Sequential(first, nn.ReLU(), *middle, nn.Flatten(), last)
        model(torch.zeros(1, 1, 8, 8))
    return model


@pytest.mark.parametrize(
    ("model", "after", "chain"),
    [
        (sequential(nn.MaxPool2d(2), nn.Conv2d(6, 4, 2), nn.GELU(), nn.AvgPool2d(2)), "all", True),
        (sequential(nn.Conv2d(6, 4, 3, stride=2, padding=1), nn.Tanh()), ["1"], True),
        (sequential(nn.Conv2d(6, 6, 3, groups=2), nn.ReLU()), "all", False),  # groups do not take any subset
        (sequential(nn.Sigmoid(), nn.Conv2d(6, 4, 3)), ["1"], False),  # sigmoid(0) is not 0
        (sequential(nn.GroupNorm(2, 6), nn.Conv2d(6, 4, 3), nn.ReLU()), ["3"], True),  # in front of the mask
        (sequential(nn.Conv2d(6, 4, 3), nn.GroupNorm(2, 4), nn.ReLU()), "all", False),  # mixes masked channels
        (sequential(nn.Conv2d(6, 4, 3), nn.Flatten(), nn.ReLU()), "all", False),  # channels become features
        (sequential(TurnOverDropout(), nn.Conv2d(6, 4, 3)), None, True),  # written by hand
    ],
)
def test_any_sequence_equals_brute_force(model: nn.Module, after: str | list[str] | None, chain: bool) -> None:
    if after is not None:
        insert(model, after=after, keep=0.7 if after == ["1"] else 0.5)
    x, y = examples(35)
    assert (read_chain(model) is not None) == chain
    expected = brute_force(model, IDS, x, y)
    assert expected.std() > 1e-3
    torch.testing.assert_close(influence(model, IDS, x, y), expected, rtol=1e-4, atol=1e-5)


def test_a_module_that_does_not_do_as_it_says_is_found_out() -> None:
    class Shuffled(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).flip(1)

    model = network("mlp")
    odd = Shuffled(40, 48)
    odd.load_state_dict(model[5].state_dict())
    model[5] = odd
    x, y = examples(35)
    torch.testing.assert_close(influence(model, IDS, x, y), brute_force(model, IDS, x, y), rtol=1e-4, atol=1e-5)
