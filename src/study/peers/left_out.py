"""Left-out residuals for any network: what the estimate of turn-over networks owes to masks, and what it does not."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from turnover.attribution.influence import influence
from turnover.batches.examples import Examples


def left_out(
    model: nn.Module, train: Examples, targets: Examples, averaged: tuple[np.ndarray, np.ndarray] | None = None
) -> Tensor:
    """Influence from left-out residuals, [train, target]: `turnover.influence` with ``estimate="left-out"``.

    Args:
        model: trained, with masks or without.
        train, targets: examples.
        averaged: probabilities that the network gave training examples and targets, averaged over its training
            [n, classes]: a witness beside the neighbours, with equal weight. They take a training that was watched.
    """
    data = (train.images, train.labels, train.ids), (targets.images, targets.labels)
    predictions = None if averaged is None else (torch.from_numpy(averaged[0]), torch.from_numpy(averaged[1]))
    return influence(model, *data, estimate="left-out", predictions=predictions)
