"""Another witness of what training examples and targets would be called, beside their neighbours: probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from turnover.errors import UserError

Predicted = tuple[Tensor, Tensor]  # probabilities of training examples and of targets, [n, classes] each
_SIDES = "training examples", "targets"
_FAR = 0.02  # from 1 that probabilities may add up to: what averages of half precision leave


def check_predictions(given: Any, networks: int) -> list[Predicted]:
    """The argument `predictions` of `influence`: of every network, what was said of training examples and targets.

    Args:
        given: a pair, for all networks; or a pair for each of them.
        networks: how many.

    Raises:
        UserError: it is neither, or the numbers are no probabilities.
    """
    pairs = [given] * networks if _is_pair(given) else given
    if not isinstance(pairs, Sequence) or isinstance(pairs, str) or not all(map(_is_pair, pairs)):
        raise UserError(
            "predictions must be a pair of tensors, probabilities [n, classes] of the training examples and of the "
            f"targets (of several networks maybe a list of pairs), got {_named(given)}"
        )
    if len(pairs) != networks:
        raise UserError(
            f"{networks} networks but {len(pairs)} pairs of predictions: pass one pair for each, or for all"
        )
    return [(_probabilities(pair[0], _SIDES[0]), _probabilities(pair[1], _SIDES[1])) for pair in pairs]


def check_fit(predictions: Sequence[Predicted], train: int, targets: int, classes: int) -> None:
    """Whether there is a row for each example, and a column for each class.

    Raises:
        UserError: there is not.
    """
    for pair in predictions:
        for side, found, count in zip(_SIDES, pair, (train, targets), strict=True):
            if tuple(found.shape) != (count, classes):
                raise UserError(
                    f"predictions of the {side} have shape {tuple(found.shape)}, but there are {count} of them and "
                    f"{classes} classes: pass a row for each that is read, in the order of the data (examples with the "
                    "label -100 are not read)"
                )


def _is_pair(given: Any) -> bool:
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        return False
    return all(isinstance(one, (Tensor, np.ndarray)) for one in given)


def _named(given: Any) -> str:
    if isinstance(given, (tuple, list)):
        return f"{len(given)} of {', '.join(sorted({type(one).__name__ for one in given})) or 'nothing'}"
    return type(given).__name__


def _probabilities(given: Any, side: str) -> Tensor:
    found = torch.as_tensor(given).detach().cpu()
    if found.dim() != 2 or not found.is_floating_point():
        raise UserError(
            f"predictions of the {side} must be probabilities [n, classes], got {found.dtype} of shape "
            f"{tuple(found.shape)}"
        )
    found = found.float()
    # Written so that NaN is refused, too.
    right = (found >= 0).all(1) & ((found.sum(1) - 1).abs() <= _FAR)
    if not bool(right.all()):
        row = int(right.logical_not().nonzero()[0])
        raise UserError(
            f"predictions of the {side} are no probabilities in row {row} (their sum is {float(found[row].sum()):.3g}, "
            f"the least {float(found[row].min()):.3g}): pass softmax(logits), averaged over the training"
        )
    return found
