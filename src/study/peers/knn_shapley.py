"""The exact Shapley value of every training example for a k-nearest-neighbour classifier on features.

Jia et al. (2019, arXiv 1908.08619), theorem 1. With the training examples in order of their distance to the target,
``match_j`` saying whether the j-th (from 1) has the target's label, and n of them,

    s_n = match_n / max(n, k)
    s_j = s_{j+1} + (match_j - match_{j+1}) / k * min(k, j) / j

For n >= k the first is their ``match_n / n``. Dattri's `KNNShapleyAttributor` is this recursion in Python, one pair at
a time (minutes where this takes a second); the tests compare both.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from study.peers.inputs import TrainedNetwork
from turnover.batches.examples import Examples
from turnover.reading.features import features_of


def knn_shapley(
    networks: Sequence[TrainedNetwork], train: Examples, targets: Examples, *, neighbours: int = 10
) -> Tensor:
    """Shapley values [train, target] on what enters the first network's last layer, by Euclidean distance."""
    x, x_target = (features_of(networks[0].model, examples.images) for examples in (train, targets))
    return shapley_values(x, train.labels, x_target, targets.labels, neighbours)


def shapley_values(x: Tensor, y: Tensor, x_target: Tensor, y_target: Tensor, neighbours: int) -> Tensor:
    """The values for features x [train, units] and x_target [target, units] with labels y, y_target.

    Returns:
        float32 [train, target]; the values of a target add up to the share of its nearest `neighbours` that have its
        label.
    """
    count = len(x)
    order = torch.cdist(x_target, x).argsort(dim=1, stable=True)  # [target, train]
    match = (y[order] == y_target.unsqueeze(1)).double()
    rank = torch.arange(1, count, dtype=torch.float64)
    steps = (match[:, :-1] - match[:, 1:]) / neighbours * rank.clamp(max=neighbours) / rank
    last = match[:, -1:] / max(count, neighbours)
    # s_j is the sum of the steps from j on, and of the last value.
    values = torch.cat([steps.flip(1).cumsum(1).flip(1) + last, last], 1)
    return torch.empty_like(values).scatter_(1, order, values).T.float().contiguous()
