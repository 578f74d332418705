"""Small networks with turn-over dropout, and the influence of every pair the slow, obvious way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.support import ROOT
from turnover.attribution.arguments import Asked, pairs_of
from turnover.attribution.scorer import Scorer
from turnover.batches.outputs import loss_and_margin
from turnover.masking.insertion import insert
from turnover.masking.subnetworks import subnetwork

CLASSES = 5


def run_python(*arguments: str | Path) -> str:
    """Standard output of a Python process that finds the library and the tests."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


class Residual(nn.Module):
    """A skip connection from before the first masked layer to after it, and a mask that nothing passes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.join = nn.Linear(64, 64), nn.ReLU(), nn.Identity()
        self.second = nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return self.second(self.join(x + self.act(self.first(x))))  # type: ignore[no-any-return]


def network(kind: str, keep: float = 0.5, seed: int = 0) -> nn.Module:
    """A network for inputs [batch, 1, 8, 8], weights scaled up so that influences differ from zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "residual":
            return insert(Residual(), after=["act", "join"], keep=keep, seed=seed)
        if kind == "mlp":
            model: nn.Module = nn.Sequential(
                nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 40), nn.ReLU(), nn.Linear(40, 48),
                nn.ReLU(), nn.Linear(48, CLASSES),
            )  # fmt: skip
        else:
            model = nn.Sequential(
                nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 12, 3, padding=1),
                nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, CLASSES),
            )  # fmt: skip
        after = {"head": "head", "all": "all", "mlp": ["2", "6"]}[kind]
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.7)
        return insert(model, after=after, keep=keep, seed=seed)


def examples(count: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Inputs [count, 1, 8, 8] and labels [count]."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 1, 8, 8, generator=generator)
    return x, torch.randint(0, CLASSES, (count,), generator=generator)


def scorer_of(model: nn.Module, ids: Tensor, x: Tensor, y: Tensor, **settings: Any) -> Scorer:
    """The scorer that `influence` and `summarize` would use."""
    return pairs_of([model], ids, x, y, Asked(**settings)).scorers[0]


def brute_force(model: nn.Module, ids: Tensor, x: Tensor, y: Tensor, measure: str = "loss") -> Tensor:
    """Influence [train, target], one training example at a time."""
    rows = []
    model.eval()
    for i in ids.tolist():
        same = torch.full((len(x),), i)
        with torch.no_grad():
            with subnetwork(model, same):
                loss, margin = loss_and_margin(model(x), y)
            with subnetwork(model, same, flipped=True):
                flipped_loss, flipped_margin = loss_and_margin(model(x), y)
        rows.append(flipped_loss - loss if measure == "loss" else margin - flipped_margin)
    return torch.stack(rows)
