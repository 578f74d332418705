"""What the image examples train on: scikit-learn's digits, one label in ten replaced at random."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from turnover import calibrate, influence, memorization, read

SHADES = " .:+#@"


class Digits(NamedTuple):
    """Images [n, 1, 8, 8], given labels [n], ids [n] that never change, and the true labels [n]."""

    x: Tensor
    y: Tensor
    ids: Tensor
    true: Tensor

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
    digits = Digits(x, y, torch.arange(len(true)), true)
    return digits.rows(0, 800), digits.rows(800, 1200)


def report(network: nn.Module) -> float:
    """Print what a trained network memorized, and which images helped and harmed it on others.

    Returns the share of wrong labels among as many at the top of the ranking.
    """
    train, placebo = noisy_digits()
    readings = read(network, (train.x, train.y, train.ids))  # one pass over the training images, for all questions
    scores = memorization(network, readings)
    null = memorization(network, placebo.x, placebo.y, placebo.ids, neighbours=False)
    memorized = calibrate(scores, null, false_discovery_rate=0.1)["memorized"]
    wrong = (train.y != train.true).numpy()
    print(f"memorized: {memorized[wrong].mean():.0%} of the wrong labels, {memorized[~wrong].mean():.0%} of the others")

    # By the loss of the sub-network that never saw the image: a wrong label surprises it.
    order = scores["loss_flipped"].argsort()[::-1].tolist()
    first = float(wrong[order[: wrong.sum()]].mean())
    print(f"\nthe most suspicious of {len(wrong)} ({wrong.mean():.0%} are wrong; of as many at the top {first:.0%}):")
    print(pictures((train, row, f"called {train.y[row]}") for row in order[:6]))

    effect = influence(network, readings, (placebo.x, placebo.true))
    for target in effect.abs().amax(0).topk(2).indices.tolist():  # where single images tell most
        helpful = effect[:, target].argsort(descending=True).tolist()
        print(f"\nwhat helped and harmed most in telling that this is a {placebo.true[target]}:")
        shown = [(placebo, target, "held out")]
        for row in helpful[:3] + helpful[:-3:-1]:
            shown.append((train, row, f"called {train.y[row]}: {effect[row, target]:+.2f}"))
        print(pictures(shown))
    return first


def pictures(shown: Iterable[tuple[Digits, int, str]]) -> str:
    """Images side by side, with a word under each."""
    columns = []
    for digits, row, word in shown:
        grey = ((digits.x[row, 0] + 1) / 2 * (len(SHADES) - 1)).round().long()
        lines = ["".join(2 * SHADES[value] for value in line) for line in grey.tolist()]
        columns.append([line.ljust(18) for line in [*lines, word]])
    return "\n".join("".join(parts).rstrip() for parts in zip(*columns, strict=True))
