"""The classifier that was fitted to all others, against one that really was."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.unit.turnover.auditing.examples import embeddings
from turnover.auditing import linear


def test_it_is_ridge_regression_with_every_example_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "RIDGES", (1e-2,))
    monkeypatch.setattr(linear, "SHARPNESS", (4.0,))
    monkeypatch.setattr(linear, "_BLOCK", 7)
    features, given, _ = embeddings(count=40, width=6)
    x, y = torch.from_numpy(features).double(), torch.from_numpy(given)
    found = linear.linear_votes(x.float(), y, 4)
    centred = x - x.mean(0)
    unit = torch.cat([centred / centred.std(0, correction=0), torch.ones(40, 1, dtype=torch.float64)], 1)
    penalty = 1e-2 * 40 * torch.eye(7, dtype=torch.float64)
    penalty[6, 6] = 0.0  # of the constant none
    target = F.one_hot(y, 4).double()
    for row in range(40):
        others = torch.arange(40) != row
        weights = torch.linalg.solve(unit[others].T @ unit[others] + penalty, unit[others].T @ target[others])
        assert torch.allclose(found[row].double(), (4.0 * unit[row] @ weights).softmax(0), atol=1e-5)


def test_more_features_than_examples_and_constant_ones_are_no_trouble() -> None:
    features, given, right = embeddings(count=60, width=200, wrong=3)
    features[:, 5] = 7.0
    found = linear.linear_votes(torch.from_numpy(features), torch.from_numpy(given), 4)
    assert torch.isfinite(found).all()
    assert (found.argmax(1) == torch.from_numpy(right)).float().mean() > 0.9
