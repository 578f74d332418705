"""Curvature of the loss around an input (Garg, Ravikumar, Roy 2024, "Memorization Through the Lens of Curvature").

arXiv 2307.05831: the trace of the squared Hessian of an example's loss with respect to its input, estimated by
Hutchinson's method, averaged over training. The paper takes differences of gradients and every epoch; here the products
with the Hessian are exact, and the epochs are the network's checkpoints and its end.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from study.peers.inputs import TrainedNetwork, plain
from turnover.batches.examples import Examples

BATCH = 500


def input_curvature(
    networks: Sequence[TrainedNetwork], train: Examples, targets: None = None, *, probes: int = 10
) -> Tensor:
    """The curvature of every training example's loss, averaged over the first network's checkpoints and its end.

    Args:
        networks: the first one is used.
        train: examples.
        targets: none: it is a score of training examples alone.
        probes: random vectors of ones and minus ones, ``v`` in ``mean of |H v|^2``, whose expectation is tr(H^2).

    Returns:
        float32 [train], at least 0: large where the loss bends around an example, that is, where it is memorized.
    """
    network = networks[0]
    model = copy.deepcopy(network.model).eval()
    states = [*network.checkpoints, network.model.state_dict()]
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros(len(train))
    for state in states:
        model.load_state_dict(state)
        inner, x = plain(model, train.images)
        parts = zip(torch.split(x, BATCH), torch.split(train.labels, BATCH), strict=True)
        total += torch.cat([_squared_products(inner, *part, probes, generator) for part in parts])
    return total / len(states)


def _squared_products(model: nn.Module, x: Tensor, y: Tensor, probes: int, generator: torch.Generator) -> Tensor:
    """The mean over probes of |H v|^2 of every example [n]."""
    x = x.detach().requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels of attention have no second derivative
        loss = F.cross_entropy(model(x), y, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
    found = torch.zeros(len(x))
    for probe in range(probes):
        v = torch.randint(0, 2, x.shape, generator=generator).to(x.dtype) * 2 - 1
        (product,) = torch.autograd.grad(gradient, x, v, retain_graph=probe + 1 < probes)
        found += product.flatten(1).square().sum(1)
    return found / probes
