"""Memorization by turn-over dropout agrees with retraining, on a problem of seconds."""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.datasets import load_digits

from turnover import insert, memorization
from turnover.data.batches import Examples
from turnover.data.labels import randomize
from turnover.memorization import evaluating
from turnover.models import MLP, Normalized
from turnover.training import TrainingConfig, train

NETWORKS, EXAMPLES = 40, 300


def digits() -> Examples:
    bunch = load_digits()
    rows = np.random.default_rng(0).permutation(len(bunch.target))[:EXAMPLES]
    given, _ = randomize(bunch.target[rows].astype(np.int64), 10, 0.1, seed=0)
    images = torch.tensor(bunch.images[rows] * 15, dtype=torch.uint8).unsqueeze(1)
    return Examples(images, torch.tensor(given), torch.arange(EXAMPLES))


def network(seed: int) -> Normalized:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Normalized(MLP((1, 8, 8), 10, hidden=512, layers=1), [0.3], [0.37])


def config(seed: int) -> TrainingConfig:
    return TrainingConfig(epochs=15, batch_size=32, learning_rate=3e-3, seed=seed)


def retrained(data: Examples) -> np.ndarray:
    """Probability of the given label in networks that saw an example, minus in those that did not (Feldman & Zhang)."""
    inside, outside = np.zeros((2, EXAMPLES)), np.zeros((2, EXAMPLES))
    for seed in range(NETWORKS):
        chosen = torch.randperm(EXAMPLES, generator=torch.Generator().manual_seed(seed)) < EXAMPLES // 2
        model = network(100 + seed)
        train(model, data[chosen], config(100 + seed), turn_over=False)
        with evaluating(model), torch.no_grad():
            right = model(data.images).softmax(1).gather(1, data.labels[:, None]).squeeze(1).numpy()
        mask = chosen.numpy()
        inside += np.stack([mask * right, mask])
        outside += np.stack([~mask * right, ~mask])
    return np.asarray(inside[0] / inside[1] - outside[0] / outside[1])


def test_agreement_with_retraining_rises_with_runs_and_is_gone_when_ids_are_shuffled() -> None:
    data = digits()
    truth = retrained(data)
    runs = []
    for seed in range(4):
        model = insert(network(seed), "head", seed=seed)
        train(model, data, config(seed))
        runs.append(memorization(model, data.images, data.labels, data.ids)["loss"].to_numpy())
        if seed == 0:
            other_ids = data.ids.roll(EXAMPLES // 2)
            wrong = memorization(model, data.images, data.labels, other_ids)["loss"].to_numpy()
    one = float(np.mean([spearmanr(run, truth).statistic for run in runs]))
    four = float(spearmanr(np.mean(runs, axis=0), truth).statistic)
    assert one > 0.5
    assert four > one
    assert abs(spearmanr(wrong, truth).statistic) < 0.3
