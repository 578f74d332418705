"""Figures of merit against scipy and scikit-learn, whole sample and resampled."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score

from study.validation.resampling import (
    auroc_for,
    average_precision_for,
    draw_weights,
    estimate,
    partial_spearman_with,
    spearman_with,
)

N = 80


@pytest.fixture(params=[False, True], ids=["distinct", "ties"])
def sample(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, a truth they agree with in part, and a common cause."""
    rng = np.random.default_rng(0)
    cause = rng.normal(size=N)
    scores, truth = cause + rng.normal(size=N), cause + rng.normal(size=N)
    return (np.round(scores), np.round(truth), np.round(cause)) if request.param else (scores, truth, cause)


def test_points_are_the_libraries_figures(sample: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    scores, truth, cause = sample
    weights, positive = draw_weights(N, 5, 0), truth > 0.5
    assert spearman_with(truth)(scores, weights)[0] == pytest.approx(spearmanr(scores, truth).statistic)
    assert auroc_for(positive)(scores, weights)[0] == pytest.approx(roc_auc_score(positive, scores))
    expected = average_precision_score(positive, scores)
    assert average_precision_for(positive)(scores, weights)[0] == pytest.approx(expected)
    # Partial correlation: that of the residuals of the ranks.
    x, y, z = (rankdata(values) for values in (scores, truth, cause))
    residuals = [v - np.polyval(np.polyfit(z, v, 1), z) for v in (x, y)]
    partial = partial_spearman_with(truth, cause)
    assert partial(scores, weights)[0] == pytest.approx(np.corrcoef(*residuals)[0, 1])
    assert partial(cause, weights)[0] == 0.0


def test_resamples_are_the_libraries_weighted_figures(sample: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    scores, truth, _ = sample
    weights, positive = draw_weights(N, 20, 1), truth > 0.5
    assert weights[0].tolist() == [1.0] * N
    assert (weights.sum(1) == N).all()
    for row, (area, precision, correlation) in enumerate(
        zip(
            auroc_for(positive)(scores, weights),
            average_precision_for(positive)(scores, weights),
            spearman_with(truth)(scores, weights),
            strict=True,
        )
    ):
        assert area == pytest.approx(roc_auc_score(positive, scores, sample_weight=weights[row]))
        assert precision == pytest.approx(average_precision_score(positive, scores, sample_weight=weights[row]))
        drawn = np.repeat(np.arange(N), weights[row].astype(int))
        assert correlation == pytest.approx(np.corrcoef(rankdata(scores)[drawn], rankdata(truth)[drawn])[0, 1])


def test_an_estimate_is_the_mean_of_its_runs_inside_of_its_interval() -> None:
    rng = np.random.default_rng(2)
    truth = rng.normal(size=N)
    runs = [truth + rng.normal(size=N) for _ in range(3)]
    found = estimate(spearman_with(truth), runs, draw_weights(N, 400, 3), 0.95)
    single = [spearmanr(run, truth).statistic for run in runs]
    assert found.value == pytest.approx(np.mean(single))
    assert (found.worst, found.best) == (pytest.approx(min(single)), pytest.approx(max(single)))
    assert found.low < found.value < found.high
    # About as wide as Fisher's interval for one correlation of that size: not ten times more or less.
    width = 2 * 1.96 * (1 - found.value**2) / np.sqrt(N)
    assert 0.4 * width < found.high - found.low < 1.5 * width
