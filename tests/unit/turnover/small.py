"""A network and examples so small that a training takes a fraction of a second."""

from __future__ import annotations

import torch
from torch import nn

from study.networks.zoo.small import CNN, Normalized
from turnover.batches.examples import Examples
from turnover.masking.insertion import insert


def examples(n: int = 50, classes: int = 3) -> Examples:
    """Random images of 8x8 pixels with random labels; ids from 1000."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 1, 8, 8), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, classes, (n,), generator=generator)
    return Examples(images, labels, torch.arange(n) + 1000)


def network(after: str = "head", seed: int = 0) -> Normalized:
    """A small CNN with turn-over dropout, for `examples`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = CNN((1, 8, 8), 3, channels=(4, 8), hidden=32)
    return Normalized(insert(model, after), [0.5], [0.3])


def weights(model: nn.Module) -> torch.Tensor:
    """All weights in one vector."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
