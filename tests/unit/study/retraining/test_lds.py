"""The linear datamodelling score, against scipy, on a planted additive game, and on noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from study.retraining.lds import lds

NETWORKS, TRAIN, TARGETS = 60, 40, 25


def halves(rng: np.random.Generator, networks: int = NETWORKS, train: int = TRAIN) -> np.ndarray:
    return rng.permuted(np.tile(np.arange(train) < train // 2, (networks, 1)), axis=1)


def test_the_true_attribution_of_an_additive_game_scores_one_and_its_negative_minus_one() -> None:
    rng = np.random.default_rng(0)
    truth, inside = rng.normal(size=(TRAIN, TARGETS)), halves(rng)
    outputs = np.exp(inside @ truth)  # any increasing function of the sum: only the order counts
    np.testing.assert_allclose(lds(truth, inside, outputs), 1.0, atol=1e-12)
    np.testing.assert_allclose(lds(-truth, inside, outputs), -1.0, atol=1e-12)
    np.testing.assert_allclose(lds(torch.tensor(truth), torch.tensor(inside), torch.tensor(outputs)), 1.0, atol=1e-12)


def test_noise_scores_zero_within_the_stated_error() -> None:
    rng = np.random.default_rng(1)
    inside, targets = halves(rng, 100, 200), 400
    outputs = inside @ rng.normal(size=(200, targets))
    single = np.sqrt(1 / 99 + 1 / 199)
    error = single / np.sqrt(targets)
    found = [lds(rng.normal(size=(200, targets)), inside, outputs) for _ in range(20)]
    means = np.array([values.mean() for values in found])
    assert np.abs(means).max() < 4 * error
    # The error is neither over- nor understated: spread of 20 means, and of single targets.
    assert 0.5 * error < means.std(ddof=1) < 1.6 * error
    assert np.concatenate(found).std() == pytest.approx(single, rel=0.05)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_every_target_is_scipys_spearman(seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    networks, train, targets = rng.integers(3, 12), rng.integers(2, 9), rng.integers(1, 6)
    inside = rng.random((networks, train)) < 0.5
    scores, outputs = rng.normal(size=(train, targets)), rng.normal(size=(networks, targets))
    if ties:
        scores, outputs = np.round(scores), np.round(outputs)
    found = lds(scores, inside, outputs)
    for t in range(targets):
        predicted = np.array([scores[row, t].sum() for row in inside])
        if np.ptp(np.round(predicted, 12)) == 0 or np.ptp(outputs[:, t]) == 0:
            assert found[t] == 0.0
        else:
            assert found[t] == pytest.approx(spearmanr(np.round(predicted, 12), outputs[:, t]).statistic, abs=1e-9)


def test_a_target_without_any_order_scores_zero() -> None:
    rng = np.random.default_rng(2)
    inside = halves(rng)
    equal = lds(np.full((TRAIN, 1), 0.1), inside, rng.normal(size=(NETWORKS, 1)))  # every half has the same sum
    assert equal.tolist() == [0.0]
    assert lds(rng.normal(size=(TRAIN, 1)), inside, np.ones((NETWORKS, 1))).tolist() == [0.0]


@pytest.mark.parametrize(
    ("scores", "inside", "outputs", "message"),
    [
        (np.zeros((4, 2)), np.ones((5, 3)), np.zeros((5, 2)), "do not fit together"),
        (np.zeros((4, 2)), np.ones((5, 4)), np.zeros((5, 3)), "do not fit together"),
        (np.zeros(4), np.ones((5, 4)), np.zeros((5, 3)), "must be"),
        (np.zeros((4, 2)), np.ones((2, 4)), np.zeros((2, 2)), "at least 3"),
        (np.full((4, 2), np.nan), np.ones((5, 4)), np.zeros((5, 2)), "scores holds 8 values that are not finite"),
        (np.zeros((4, 2)), np.ones((5, 4)), np.full((5, 2), np.inf), "outputs holds 10 values"),
    ],
)
def test_bad_input_is_refused(scores: np.ndarray, inside: np.ndarray, outputs: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lds(scores, inside, outputs)
