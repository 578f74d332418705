"""A small network with masks, and what tests do with it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from turnover import insert, subnetwork


def mlp(after: str | list[str] = "all", keep: float = 0.5, seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 24), nn.Tanh(), nn.Linear(24, 4))
    return insert(layers, after=after, keep=keep, seed=seed)


def batch(rows: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(rows, 12, generator=generator), torch.randint(0, 4, (rows,), generator=generator)


def run(model: nn.Module, x: Tensor, ids: Any, flipped: bool = False) -> Tensor:
    with torch.no_grad():
        if ids is None:
            return model(x)  # type: ignore[no-any-return]
        with subnetwork(model, ids, flipped=flipped):
            return model(x)  # type: ignore[no-any-return]


def gradients(model: nn.Module) -> list[Tensor]:
    found = [parameter.grad for parameter in model.parameters()]
    model.zero_grad()
    assert all(gradient is not None for gradient in found)
    return found  # type: ignore[return-value]


IDS = torch.arange(6) * 7
