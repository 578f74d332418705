"""Left-out residuals for any network: what the estimate of turn-over networks owes to masks, and what it does not."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from turnover.attribution.left_out import LeftOut
from turnover.attribution.nearness import similarity_of
from turnover.attribution.targets import ReadTargets
from turnover.batches.examples import Examples
from turnover.reading.one_pass import read


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
    readings = read(model, train.images, train.labels, train.ids, masked=False)
    views = ReadTargets(model, read(model, targets.images, targets.labels, masked=False), scored=False)
    near = similarity_of(model, readings, lambda columns: views.features(columns, readings.layer))
    predictions = None if averaged is None else (torch.from_numpy(averaged[0]), torch.from_numpy(averaged[1]))
    scorer = LeftOut(model, readings, near, views, predictions=predictions)
    return scorer.tile(slice(0, len(train)), scorer.prepare(slice(0, len(targets)))).cpu()
