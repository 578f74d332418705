"""What the examples train on: scikit-learn's digits, one label in ten replaced at random."""

from __future__ import annotations

from typing import NamedTuple

import torch
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from torch import Tensor

from turnover import calibrate, memorization


class Digits(NamedTuple):
    """Images [n, 1, 8, 8], labels [n], ids [n] that never change, and whose label was replaced [n]."""

    x: Tensor
    y: Tensor
    ids: Tensor
    is_random: Tensor

    def rows(self, start: int, stop: int) -> Digits:
        return Digits(*(part[start:stop] for part in self))


def noisy_digits() -> tuple[Digits, Digits]:
    """800 training examples, and 400 placebos: drawn in the same way, but never trained on."""
    bunch = load_digits()
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(bunch.target), generator=generator)
    x = torch.tensor(bunch.images, dtype=torch.float32).unsqueeze(1)[order] / 8 - 1
    true = torch.tensor(bunch.target)[order]
    chosen = torch.rand(len(true), generator=generator) < 0.1
    y = torch.where(chosen, torch.randint(0, 10, (len(true),), generator=generator), true)
    digits = Digits(x, y, torch.arange(len(true)), y != true)
    return digits.rows(0, 800), digits.rows(800, 1200)


def report(network: torch.nn.Module) -> float:
    """Print what a trained network memorized. Returns how well the scores tell wrong labels: the area under the ROC."""
    train, placebo = noisy_digits()
    scores = memorization(network, train.x, train.y, train.ids)
    null = memorization(network, placebo.x, placebo.y, placebo.ids)
    found = calibrate(scores, null, false_discovery_rate=0.1)
    wrong = train.is_random.numpy()
    area = float(roc_auc_score(wrong, scores["loss"]))
    of_wrong, of_right = found["memorized"][wrong].mean(), found["memorized"][~wrong].mean()
    print(f"memorized: {of_wrong:.0%} of the wrong labels, {of_right:.0%} of the right ones; AUROC {area:.3f}")
    print(found.sort_values("z", ascending=False).head(5).to_string(index=False))
    return area
