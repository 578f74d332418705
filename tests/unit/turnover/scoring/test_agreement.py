"""Memorization and influence by turn-over dropout agree with retraining, on a problem of seconds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from scipy.stats import rankdata, spearmanr
from sklearn.datasets import load_digits
from torch import Tensor, nn

from study.data.scenarios.labels import randomize
from study.networks.zoo.small import MLP, Normalized
from turnover import average_over_training, influence, insert, localize, memorization, neighbourhood, sharpen
from turnover.batches.examples import Examples
from turnover.batches.passes import evaluating
from turnover.training.dynamics import Dynamics
from turnover.training.loop import train
from turnover.training.settings import TrainingConfig

NETWORKS, EXAMPLES, TARGETS, RUNS = 40, 300, 200, 4


class Retrained(NamedTuple):
    """Ordinary networks on random halves."""

    inside: np.ndarray  # bool [networks, examples]
    chance: np.ndarray  # [networks, examples + targets], of the given label

    def memorization(self) -> np.ndarray:
        """Mean over the networks that saw an example, minus over those that did not (Feldman & Zhang)."""
        own = self.chance[:, :EXAMPLES]
        inside = (own * self.inside).sum(0) / self.inside.sum(0)
        return np.asarray(inside - (own * ~self.inside).sum(0) / (~self.inside).sum(0))

    def lds(self, scores: Tensor) -> float:
        """Spearman, over networks, of a target's probability with the sum of scores [example, target] over the half."""
        predicted = rankdata(self.inside.astype(np.float64) @ scores.numpy(), axis=0)
        output = rankdata(self.chance[:, EXAMPLES:], axis=0)
        return float(np.mean([np.corrcoef(p, o)[0, 1] for p, o in zip(predicted.T, output.T, strict=True)]))


def digits() -> tuple[Examples, Examples]:
    """Training examples, a tenth of them with random labels, and targets."""
    bunch = load_digits()
    rows = np.random.default_rng(0).permutation(len(bunch.target))[: EXAMPLES + TARGETS]
    labels = bunch.target[rows].astype(np.int64)
    labels[:EXAMPLES], _ = randomize(labels[:EXAMPLES], 10, 0.1, seed=0)
    images = torch.tensor(bunch.images[rows] * 15, dtype=torch.uint8).unsqueeze(1)
    whole = Examples(images, torch.tensor(labels), torch.arange(EXAMPLES + TARGETS))
    return whole[whole.ids < EXAMPLES], whole[whole.ids >= EXAMPLES]


def network(seed: int) -> Normalized:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Normalized(MLP((1, 8, 8), 10, hidden=512, layers=1), [0.3], [0.37])


def config(seed: int) -> TrainingConfig:
    return TrainingConfig(epochs=15, batch_size=32, learning_rate=3e-3, seed=seed)


@pytest.fixture(scope="module")
def retrained() -> Retrained:
    data, targets = digits()
    inside, chances = [], []
    for seed in range(NETWORKS):
        chosen = torch.randperm(EXAMPLES, generator=torch.Generator().manual_seed(seed)) < EXAMPLES // 2
        model = network(100 + seed)
        train(model, data[chosen], config(100 + seed), turn_over=False)
        inside.append(chosen.numpy())
        with evaluating(model), torch.no_grad():
            logits = model(torch.cat([data.images, targets.images]))
        labels = torch.cat([data.labels, targets.labels])
        chances.append(logits.softmax(1).gather(1, labels[:, None]).squeeze(1).numpy())
    return Retrained(np.stack(inside), np.stack(chances))


@pytest.fixture(scope="module")
def runs() -> list[tuple[nn.Module, Dynamics]]:
    data, _ = digits()
    found = []
    for seed in range(RUNS):
        model, dynamics = insert(network(seed), "head", seed=seed), Dynamics(data, range(1, 16))
        train(model, data, config(seed), dynamics=dynamics)
        found.append((model, dynamics))
    return found


def agreement(scores: list[np.ndarray], truth: np.ndarray) -> tuple[float, float]:
    """Spearman with retraining, of one run and of the mean of all."""
    return float(np.mean([spearmanr(run, truth).statistic for run in scores])), float(
        spearmanr(np.mean(scores, axis=0), truth).statistic
    )


def test_memorization_agrees_with_retraining(retrained: Retrained, runs: list[tuple[nn.Module, Dynamics]]) -> None:
    data, _ = digits()
    truth = retrained.memorization()
    raw, sharp = [], []
    for model, dynamics in runs:
        raw.append(memorization(model, data.images, data.labels, data.ids)["loss"].to_numpy())
        near = neighbourhood(model, data.images, data.labels)
        sharp.append(sharpen(average_over_training(dynamics.frame()), near)["sharpened"].to_numpy())
    one, four = agreement(raw, truth)
    assert one > 0.5
    assert four > one
    sharp_one, sharp_four = agreement(sharp, truth)
    assert sharp_one > one
    assert sharp_four > sharp_one
    # Other examples' masks agree with nothing.
    other_ids = data.ids.roll(EXAMPLES // 2)
    wrong = memorization(runs[0][0], data.images, data.labels, other_ids)["loss"].to_numpy()
    assert abs(spearmanr(wrong, truth).statistic) < 0.3


def test_localized_influence_agrees_with_retraining(
    retrained: Retrained, runs: list[tuple[nn.Module, Dynamics]]
) -> None:
    data, targets = digits()
    raw = [influence(model, data.ids, targets.images, targets.labels) for model, _ in runs]
    found = [localize(r, model, data.images, targets.images) for r, (model, _) in zip(raw, runs, strict=True)]
    one, four = np.mean([retrained.lds(scores) for scores in found]), retrained.lds(torch.stack(found).mean(0))
    assert four > one > 1.3 * np.mean([retrained.lds(scores) for scores in raw]) > 0
    # The same factor, but each example's is another's.
    moved = localize(raw[0], runs[0][0], data.images.roll(EXAMPLES // 2, 0), targets.images)
    assert retrained.lds(moved) < 0.5 * retrained.lds(found[0])
    # The factor with nothing but the agreement of labels, without what the masks say, is worse.
    agree = torch.where(data.labels[:, None] == targets.labels, 1.0, -1.0)
    plain = [retrained.lds(localize(agree, model, data.images, targets.images)) for model, _ in runs]
    assert np.mean(plain) < one
