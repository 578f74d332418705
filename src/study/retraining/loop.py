"""How one ordinary network is trained: the loop that is run hundreds of times, with nothing in it but the steps.

It shares no code with `turnover.training`, on purpose: there every example's masks, curves and checkpoints of epochs
count, here only the final network does, and ground truth that took hours must not be made again because of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from study.context.params import RecipeParams

# Makes an ordinary network, on the CPU, from a seed; a network takes images as they are stored. Must be picklable.
Factory = Callable[[int], nn.Module]


def train_network(make: Factory, images: Tensor, labels: Tensor, recipe: RecipeParams, seed: int) -> nn.Module:
    """Train a new network: AdamW under a one-cycle schedule (linear warm-up over a fifth, then cosine to 0).

    Args:
        make: gives the network; called with `seed`.
        images: as they are stored [n, channels, height, width], on the device that trains.
        labels: int64 [n], on the same device.
        recipe: how to train. A small subset gets more epochs than it says, until it has had `min_steps` steps.
        seed: of initial weights, order of the examples, and ordinary dropout if the network has any. The global random
            number generators stay as they were.

    Returns:
        The network in evaluation mode. It depends on the arguments and the number of threads alone.
    """
    device = images.device
    count = len(images)
    batches = -(-count // recipe.batch_size)
    epochs = max(recipe.epochs, -(-recipe.min_steps // batches))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        model = make(seed).to(device).train()
        parameters = list(model.parameters())
        optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
        for epoch in range(epochs):
            order = torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(count)).to(device)
            for step, rows in enumerate(torch.split(order, recipe.batch_size)):
                position = (epoch * batches + step) / (epochs * batches)
                optimizer.param_groups[0]["lr"] = recipe.learning_rate * one_cycle(position)
                with _precision(recipe, device):
                    logits = model(images[rows])
                optimizer.zero_grad()
                F.cross_entropy(logits.float(), labels[rows]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    return model.eval()


def label_log_odds(
    model: nn.Module, images: Tensor, labels: Tensor, recipe: RecipeParams, batch: int = 512
) -> tuple[Tensor, Tensor]:
    """What a network says about the labels of examples.

    Returns:
        Log-odds of the label, ``log p - log(1 - p)``, float32 [n]: exact also where p rounds to 1; and whether the
        label has the largest logit, bool [n]. Both on the CPU.
    """
    margins, correct = [], []
    with torch.no_grad(), _precision(recipe, images.device):
        for start in range(0, len(images), batch):
            logits = model(images[start : start + batch]).float()
            y = labels[start : start + batch, None]
            others = logits.scatter(1, y, -torch.inf).logsumexp(1)
            margins.append(logits.gather(1, y).squeeze(1) - others)
            correct.append(logits.argmax(1) == y.squeeze(1))
    return torch.cat(margins).cpu(), torch.cat(correct).cpu()


def one_cycle(position: float) -> float:
    """Learning rate at `position` (0: first step, 1: the end), as a fraction of the peak."""
    if position < 0.2:
        return max(position / 0.2, 0.04)
    return 0.5 * (1.0 + math.cos(math.pi * (position - 0.2) / 0.8))


def _precision(recipe: RecipeParams, device: torch.device) -> torch.autocast | nullcontext[None]:
    return torch.autocast(device.type, torch.bfloat16) if recipe.precision == "bfloat16" else nullcontext()
