"""One update of the weights, against its formula."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from turnover.errors import UserError
from turnover.training.optimization import Updater
from turnover.training.settings import TrainingConfig

SGD = TrainingConfig(optimizer="sgd", momentum=0.0, weight_decay=0.0, learning_rate=0.5, schedule="constant")


def line(value: float = 1.0) -> nn.Linear:
    """A network of one weight."""
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, value)
    return module


@pytest.mark.parametrize(("norm", "expected"), [(0.0, 30.0), (2.0, 2.0), (100.0, 30.0)])
def test_gradients_longer_than_the_norm_are_scaled_down_to_it(norm: float, expected: float) -> None:
    model = line()
    Updater(model, replace(SGD, clip_norm=norm)).update(30.0 * model(torch.ones(1, 1)).sum(), 0.0)
    assert 1.0 - model.weight.item() == pytest.approx(0.5 * expected, rel=1e-5)


def test_float16_skips_a_step_that_overflows_and_goes_on_with_a_smaller_scale() -> None:
    model = line()
    updater = Updater(model, replace(SGD, precision="float16"))
    before = updater.scaler.get_scale()
    updater.update(1e38 * model(torch.ones(1, 1)).sum(), 0.0)
    assert model.weight.item() == 1.0
    assert updater.scaler.get_scale() == before / 2
    updater.update(model(torch.ones(1, 1)).sum(), 0.0)
    assert model.weight.item() == 0.5


def test_the_state_goes_on_where_it_was() -> None:
    found: list[Any] = []
    for interrupted in (False, True):
        model = line()
        config = TrainingConfig(optimizer="adamw", precision="float16", learning_rate=0.1)
        updater = Updater(model, config)
        for step in range(6):
            if interrupted and step == 3:
                state, value = updater.state_dict(), model.weight.item()
                model = line(value)
                updater = Updater(model, config)
                updater.load_state_dict(state)
            updater.update((step - 2.3) * model(torch.ones(1, 1)).sum(), step / 6)
        found.append((model.weight.item(), updater.scaler.get_scale()))
    assert found[0] == found[1]


def test_a_frozen_network_is_refused() -> None:
    with pytest.raises(UserError, match="nothing to train"):
        Updater(line().requires_grad_(False), SGD)
