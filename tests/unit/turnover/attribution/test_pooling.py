"""Pooling within classes: against a loop, at its limits, and on planted effects that it must estimate better."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from turnover import pool_within_classes


def problem(seed: int, train: int = 12, targets: int = 5, classes: int = 3) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(train, targets, generator=generator)
    factor = torch.rand(train, targets, generator=generator)
    return raw, factor, torch.randint(0, classes, (train,), generator=generator)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), strength=st.floats(0, 10))
def test_equals_a_loop_over_pairs(seed: int, strength: float) -> None:
    raw, factor, labels = problem(seed)
    found = pool_within_classes(raw * factor, factor, labels, strength)
    for i in range(len(raw)):
        of_class = labels == labels[i]
        for t in range(raw.shape[1]):
            mean = (factor[of_class, t] * raw[of_class, t]).sum() / factor[of_class, t].sum()
            expected = factor[i, t] * (raw[i, t] + strength * mean)
            assert found[i, t].item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-5)


def test_no_strength_changes_nothing_and_no_neighbour_gives_nothing() -> None:
    raw, factor, labels = problem(0)
    factor[labels == labels[0]] = 0.0
    assert torch.equal(pool_within_classes(raw * factor, factor, labels, 0.0), raw * factor)
    pooled = pool_within_classes(raw * factor, factor, labels, 3.0)
    assert torch.equal(pooled[labels == labels[0]], torch.zeros_like(pooled[labels == labels[0]]))
    assert torch.isfinite(pooled).all()


def test_planted_effects_are_estimated_better_where_noise_exceeds_their_spread() -> None:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(400) % 4
    truth = torch.randn(4, 50, generator=generator)[labels] + 0.5 * torch.randn(400, 50, generator=generator)
    measured = truth + 2.0 * torch.randn(400, 50, generator=generator)  # noise / spread: variance ratio 16
    ones = torch.ones_like(truth)

    def agreement(scores: torch.Tensor) -> float:
        return torch.corrcoef(torch.stack([scores.flatten(), truth.flatten()]))[0, 1].item()

    alone = agreement(measured)
    pooled = agreement(pool_within_classes(measured, ones, labels, 16.0))
    assert alone < 0.55
    assert pooled > 0.85
    shuffled = labels[torch.randperm(400, generator=generator)]
    assert agreement(pool_within_classes(measured, ones, shuffled, 16.0)) < alone + 0.05


def test_mistakes_are_named() -> None:
    raw, factor, labels = problem(0)
    with pytest.raises(ValueError, match="11 labels"):
        pool_within_classes(raw, factor, labels[:-1])
    with pytest.raises(ValueError, match=r"strength=-1"):
        pool_within_classes(raw, factor, labels, -1.0)
    with pytest.raises(TypeError, match=r"y_train must be integers.*got torch\.float32"):
        pool_within_classes(raw, factor, labels.float())
    with pytest.raises(ValueError, match=r"of one-hot labels pass y_train\.argmax\(1\)"):
        pool_within_classes(raw, factor, torch.eye(3)[labels])
