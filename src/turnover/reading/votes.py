"""What the training examples around an example say of its label: a vote, weighted by likeness."""

from __future__ import annotations

import torch
from torch import Tensor

# Fixed; agreement with retraining and mislabel detection are flat around it, see docs/method.md.
SHARPNESS = 4.0
_PAIRS = 1 << 32  # of examples that are compared, at most: seconds to minutes
_LEAST = 1024  # examples that each is compared with, whatever their number
_ONE_HOT = 256  # classes of which a product with a matrix of ones and zeros is faster than sums by index


def voters(count: int, references: int | None = None, most: int | None = None) -> Tensor:
    """Places of those of `count` examples that vote, in order: all of them, or a random choice, always the same.

    Args:
        references: how many. None: all of up to 65,536, and of more so many that the time stays what it is for these.
        most: at most so many, whatever `references` is.
    """
    references = max(_LEAST, _PAIRS // count) if references is None else references
    references = references if most is None else min(references, most)
    if count <= references:
        return torch.arange(count)
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:references].sort().values


def likeness(
    unit: Tensor, reference: Tensor, sharpness: float = SHARPNESS, itself: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """``max(0, cos)^sharpness`` of examples with those that vote, float32 [some, voters].

    Args:
        unit, reference: their directions, of length 1 and of one type.
        itself: rows and columns that are one and the same example, which does not vote for itself.
    """
    weight = (unit @ reference.T).float().clamp_(0.0, 1.0)
    # The usual power in two multiplications, a tenth of the time.
    weight = weight.square_().square_() if sharpness == 4.0 else weight.pow_(sharpness)
    if itself is not None:
        weight[itself] = 0.0
    return weight


def same_among(places: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of `places` that are among the `chosen` (in order), and their columns there."""
    column = torch.searchsorted(chosen, places).clamp(max=len(chosen) - 1)
    rows = (chosen[column] == places).nonzero().squeeze(1)
    return rows, column[rows]


def votes(weight: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Shares of the classes among those that vote, float32 [some, classes]; all 0 where nothing is alike.

    Args:
        weight: from `likeness`.
        labels: of the voters, int64 [voters].
    """
    if classes <= _ONE_HOT:
        by_class = weight @ torch.nn.functional.one_hot(labels, classes).to(weight.dtype)
    else:
        by_class = torch.zeros(len(weight), classes, device=weight.device).index_add_(1, labels, weight)
    return by_class / by_class.sum(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
