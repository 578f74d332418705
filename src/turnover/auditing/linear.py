"""What a linear classifier says of every embedding that was fitted to all others: exactly, in closed form.

Ridge regression to the classes, where leaving an example out only divides its residual by one less its leverage (Cook &
Weisberg 1982), with the ridge and the temperature of greatest likelihood of the labels left out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1)  # relative to the mean variance of a feature
SHARPNESS = (2.0, 4.0, 6.0, 9.0, 13.0, 20.0, 30.0)  # of the fits, which are about 0 or 1, in a softmax
_BLOCK = 8192


def linear_votes(embeddings: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Probabilities of the classes, float32 [n, classes], of each example from the others.

    Args:
        embeddings: float32 [n, d].
        labels: int64 [n].
        classes: number of classes.
    """
    count, width = embeddings.shape
    mean = torch.stack([block.double().sum(0) for block in torch.split(embeddings, _BLOCK)]).sum(0) / count
    share = torch.bincount(labels, minlength=classes).double() / count
    squares = torch.zeros(width, width, dtype=torch.float64)
    of_classes = torch.zeros(width, classes, dtype=torch.float64)
    for rows in torch.split(torch.arange(count), _BLOCK):
        centred = embeddings[rows].double() - mean
        squares += centred.T @ centred
        of_classes += centred.T @ (F.one_hot(labels[rows], classes) - share)
    # Features of one size: a ridge means the same for all.
    scale = (squares.diagonal() / count).clamp(min=1e-24).rsqrt()
    values, vectors = torch.linalg.eigh(squares * scale[:, None] * scale)
    directions = scale[:, None] * vectors
    weights = directions.T @ of_classes
    fits = torch.empty(len(RIDGES), count, classes)
    for rows in torch.split(torch.arange(count), _BLOCK):
        along = (embeddings[rows].double() - mean) @ directions
        target = F.one_hot(labels[rows], classes) - share
        for number, ridge in enumerate(RIDGES):
            inverse = 1.0 / (values.clamp(min=0.0) + ridge * count)
            leverage = (along.square() @ inverse + 1.0 / count).clamp(max=1.0 - 1e-6)[:, None]
            left_out = (along @ (weights * inverse[:, None]) - leverage * target) / (1.0 - leverage)
            fits[number, rows] = (left_out + share).float()
    best: tuple[float, Tensor, float] | None = None
    for fit in fits:
        for sharpness in SHARPNESS:
            likelihood = -float(F.cross_entropy(sharpness * fit, labels))
            if best is None or likelihood > best[0]:
                best = likelihood, fit, sharpness
    assert best is not None
    return (best[2] * best[1]).softmax(1)
