"""Leverage and support against their definitions, and what they say about planted examples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.unit.turnover.attribution.test_nearness import by_hand, linear
from turnover import neighbourhood
from turnover.reading.votes import voters


def test_against_the_definitions() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(700, 6, generator=generator) * torch.tensor([9.0, 3.0, 1.0, 1.0, 0.5, 0.1])
    y = torch.randint(0, 3, (700,), generator=generator)
    found = neighbourhood(linear(6, 3), x, y, ridge=0.01, sharpness=3.0, leverage_ridge=0.05)
    centred = (x - x.mean(0)).double().numpy()
    covariance = centred.T @ centred
    hat = centred @ np.linalg.inv(covariance + 0.05 * np.trace(covariance) * np.eye(6)) @ centred.T
    np.testing.assert_allclose(found["leverage"], np.diag(hat), rtol=1e-4)
    weight = by_hand(x, x, 0.01, 3.0)
    np.fill_diagonal(weight, 0.0)
    support = (weight * (y[:, None] == y).numpy()).sum(1) / weight.sum(1)
    np.testing.assert_allclose(found["support"], support, atol=1e-4)
    assert found["support"].std() > 0.01


def test_support_from_some_of_the_examples() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(300, 6, generator=generator), torch.randint(0, 3, (300,), generator=generator)
    found = neighbourhood(linear(6, 3), x, y, ridge=0.01, sharpness=3.0, references=120)
    chosen = voters(300, 120)
    assert len(chosen.unique()) == 120
    weight = by_hand(x, x, 0.01, 3.0)
    np.fill_diagonal(weight, 0.0)
    same = (y[:, None] == y).numpy()
    support = (weight * same)[:, chosen].sum(1) / weight[:, chosen].sum(1)
    np.testing.assert_allclose(found["support"], support, atol=1e-4)


def test_the_lonely_have_leverage_and_wrong_labels_no_support() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.eye(8)[:4].repeat_interleave(25, 0) + 0.02 * torch.randn(100, 8, generator=generator)
    y = torch.arange(4).repeat_interleave(25)
    x[0] = torch.eye(8)[6]  # alone in a direction of its own
    y[[10, 40]] = 3  # wrong
    found = neighbourhood(linear(8, 4), x, y)
    assert found["leverage"].idxmax() == 0
    assert set(found["support"].drop(0).nsmallest(2).index) == {10, 40}
    assert found["support"].drop([0, 10, 40]).min() > 0.7
    assert found[["leverage", "support"]].to_numpy().min() >= 0.0
    assert found[["leverage", "support"]].to_numpy().max() <= 1.0


def test_order_of_the_examples_and_modes_do_not_matter() -> None:
    generator = torch.Generator().manual_seed(2)
    x, y = torch.randn(90, 6, generator=generator), torch.randint(0, 3, (90,), generator=generator)
    model = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Dropout(0.5), nn.Linear(20, 3)).train()
    order = torch.randperm(90, generator=generator)
    one, other = neighbourhood(model, x, y), neighbourhood(model, x[order], y[order])
    np.testing.assert_allclose(other, one.iloc[order.numpy()], atol=1e-4)
    assert all(module.training for module in model.modules())


def test_wrong_arguments_are_refused() -> None:
    x, y = torch.zeros(5, 6), torch.zeros(4, dtype=torch.long)
    with pytest.raises(ValueError, match="got 5 inputs, 4 labels"):
        neighbourhood(linear(6), x, y)
    with pytest.raises(ValueError, match="leverage_ridge=-1: it must be a positive number"):
        neighbourhood(linear(6), x[:4], y, leverage_ridge=-1)
    for classes, labels in ((3, y.float()), (2, y.float() + 0.5)):  # of two classes, 0.0 and 1.0 are taken
        with pytest.raises(TypeError, match="must be integers"):
            neighbourhood(torch.nn.Linear(6, classes), x[:4], labels)
    with pytest.raises(TypeError, match=r"pass torch\.from_numpy\(x\)"):
        neighbourhood(linear(6), x[:4].numpy(), y)
    with pytest.raises(ValueError, match=r"got shape \(4, 3\): of one-hot"):
        neighbourhood(linear(6), x[:4], torch.eye(3)[y])
