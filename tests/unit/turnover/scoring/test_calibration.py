"""Placebo calibration on planted scores: the false-discovery rate holds, and would not without the correction."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy import stats

from turnover import calibrate
from turnover.scoring.calibration import empirical_p_values

Floats = npt.NDArray[np.float64]


def frame(scores: object) -> pd.DataFrame:
    values = np.asarray(scores, dtype=np.float64)
    return pd.DataFrame({"id": np.arange(len(values)), "loss": values})


def null(generator: np.random.Generator, n: int) -> Floats:
    """Skewed and heavy-tailed, unlike anything a formula would assume."""
    return np.asarray(np.exp(generator.standard_normal(n)) * generator.choice([-0.5, 1.0], n))


def planted(seed: int, n: int = 500, memorized: float = 0.2, placebos: int = 400) -> tuple[Floats, Floats, Floats]:
    """Scores, which of them are memorized, and placebo scores."""
    generator = np.random.default_rng(seed)
    truth = generator.random(n) < memorized
    return null(generator, n) + 25.0 * truth, truth, null(generator, placebos)


def test_p_values_by_hand() -> None:
    p = empirical_p_values([5.0, 3.0, 0.0, 2.5], [1.0, 2.0, 3.0])
    assert p.tolist() == [1 / 4, 2 / 4, 4 / 4, 2 / 4]


def test_p_values_of_placebos_are_uniform() -> None:
    generator = np.random.default_rng(1)
    p = np.concatenate([empirical_p_values(null(generator, 1), null(generator, 99)) for _ in range(5000)])
    # On the grid 1/100 .. 1; a false alarm has probability 1e-6.
    assert stats.chisquare(np.bincount(np.round(p * 100).astype(int), minlength=101)[1:]).pvalue > 1e-6
    assert p.min() == 0.01


def test_columns_by_hand() -> None:
    placebo = frame([-1.0, 0.0, 1.0, *[0.5, -0.5] * 8])
    found = calibrate(frame([10.0, -3.0, 0.75]), placebo, false_discovery_rate=0.2)
    assert list(found.columns) == ["id", "score", "z", "p", "q", "memorized"]
    spread = math.sqrt((2 + 16 / 4) / 18)
    np.testing.assert_allclose(found["z"], np.array([10.0, -3.0, 0.75]) / spread)
    np.testing.assert_allclose(found["p"], [1 / 20, 20 / 20, 2 / 20])
    np.testing.assert_allclose(found["q"], [3 / 20, 1.0, 3 / 20])
    assert found["memorized"].tolist() == [True, False, True]


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_the_false_discovery_rate_holds_and_memorized_examples_are_found(rate: float) -> None:
    shares, uncorrected, power = [], [], []
    for seed in range(300):
        scores, truth, placebo = planted(seed)
        found = calibrate(frame(scores), frame(placebo), false_discovery_rate=rate)
        called = found["memorized"].to_numpy()
        shares.append((called & ~truth.astype(bool)).sum() / max(1, called.sum()))
        naive = found["p"].to_numpy() <= rate
        uncorrected.append((naive & ~truth.astype(bool)).sum() / max(1, naive.sum()))
        power.append(called[truth.astype(bool)].mean())
    error = np.std(shares, ddof=1) / np.sqrt(len(shares))
    # Theory: exactly (share of null examples) * rate = 0.8 * rate, at most.
    assert np.mean(shares) < 0.8 * rate + 4 * error
    assert np.mean(shares) > 0.4 * rate  # not by calling nobody memorized
    assert np.mean(power) > 0.9
    assert np.mean(uncorrected) > 1.5 * rate  # without the correction, this test would fail


def test_nobody_is_memorized_where_nothing_was_learned() -> None:
    """All null: any call is a false discovery, so calls should come in at most a share `rate` of repetitions."""
    rate, repetitions = 0.1, 400
    calls = 0
    for seed in range(repetitions):
        scores, _, placebo = planted(seed, n=50, memorized=0.0, placebos=2000)
        calls += bool(calibrate(frame(scores), frame(placebo), false_discovery_rate=rate)["memorized"].any())
    assert stats.binom.sf(calls - 1, repetitions, rate) > 1e-6
    assert calls > 0


def test_other_columns_and_order() -> None:
    scores = pd.DataFrame({"id": [9, 3], "probability": [0.9, 0.0], "loss": [0.0, 0.0]})
    placebo = pd.DataFrame({"id": range(50), "probability": np.linspace(-0.2, 0.2, 50)})
    found = calibrate(scores, placebo, measure="probability")
    assert found["id"].tolist() == [9, 3]
    assert found["memorized"].tolist() == [True, False]
    assert len(calibrate(scores[:0], placebo, measure="probability")) == 0


@pytest.mark.parametrize(
    ("scores", "placebo", "rate", "message"),
    [
        (frame([1.0]), frame([0.0] * 40), 0.05, "all placebos have the same loss"),
        (frame([1.0]), frame(range(10)), 0.05, "10 placebos .* false_discovery_rate=0.05 needs at least 19"),
        (frame([1.0]), frame(range(40)), 1.0, "false_discovery_rate=1.0: it must lie strictly between 0 and 1"),
        (frame([1.0, math.nan]), frame(range(40)), 0.05, "scores holds 1 values that are not finite"),
        (frame([1.0]), frame([math.inf] + [0.0] * 40), 0.05, "placebo holds 1 values that are not finite"),
        (frame([1.0]).drop(columns="loss"), frame(range(40)), 0.05, "scores has no column 'loss'; it has id"),
        (frame([1.0]), frame(range(40)).drop(columns="id"), 0.05, "placebo has no column 'id'; it has loss"),
    ],
)
def test_mistakes(scores: pd.DataFrame, placebo: pd.DataFrame, rate: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        calibrate(scores, placebo, false_discovery_rate=rate)


def test_arrays_of_the_wrong_shape() -> None:
    with pytest.raises(ValueError, match=r"scores must be one-dimensional, got shape \(1, 1\)"):
        empirical_p_values([[1.0]], [0.0])
    with pytest.raises(ValueError, match="there are no placebo scores"):
        empirical_p_values([1.0], [])
