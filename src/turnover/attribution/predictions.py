"""Another witness of what training examples and targets would be called, beside their neighbours: probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from turnover.errors import UserError

_SIDES = "training examples", "targets"
_FAR = 0.02  # from 1 that probabilities may add up to: what averages of half precision leave


@runtime_checkable
class Recorded(Protocol):
    """What knows which examples its probabilities are of, such as `turnover.Predictions`."""

    def of(self, ids: Tensor | None, labels: Tensor) -> Tensor:
        """Probabilities [n, classes] of these examples.

        Raises:
            UserError: they are of others.
        """


Predicted = tuple[Tensor | Recorded, Tensor | Recorded]  # of training examples and of targets, [n, classes] each
Pair = tuple[Tensor, Tensor]


def check_predictions(given: Any, networks: int) -> list[Predicted]:
    """The argument `predictions` of `influence`: of every network, what was said of training examples and targets.

    Args:
        given: a pair, for all networks; or a pair for each of them.
        networks: how many.

    Raises:
        UserError: it is neither, or the numbers are no probabilities.
    """
    if _is_pair(given):
        return [_checked(given)] * networks
    if not isinstance(given, Sequence) or isinstance(given, str) or not all(map(_is_pair, given)):
        raise UserError(
            "predictions must be a pair of turnover.Predictions or tensors, probabilities [n, classes] of the training "
            f"examples and of the targets (of several networks maybe a list of pairs), got {_named(given)}"
        )
    if len(given) != networks:
        raise UserError(
            f"{networks} networks but {len(given)} pairs of predictions: pass one pair for each, or for all"
        )
    return [_checked(pair) for pair in given]


def fitting(
    predictions: Sequence[Predicted],
    train: tuple[Tensor, Tensor],
    targets: tuple[Tensor | None, Tensor],
    classes: int,
) -> list[Pair]:
    """The probabilities: a row for each example, and a column for each class.

    Args:
        predictions: from `check_predictions`.
        train, targets: ids and labels, int64 [n]; ids None: targets have none.
        classes: how many the networks have.

    Raises:
        UserError: they are of other examples.
    """
    return [(_of(pair[0], *train, classes, 0), _of(pair[1], *targets, classes, 1)) for pair in predictions]


def _of(given: Tensor | Recorded, ids: Tensor | None, labels: Tensor, classes: int, side: int) -> Tensor:
    found = given if isinstance(given, Tensor) else given.of(ids, labels)
    if tuple(found.shape) != (len(labels), classes):
        raise UserError(
            f"predictions of the {_SIDES[side]} have shape {tuple(found.shape)}, but there are {len(labels)} of them "
            f"and {classes} classes: pass a row for each that is read, in the order of the data (examples with the "
            "label -100 are not read)"
        )
    return found


def _is_pair(given: Any) -> bool:
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        return False
    return all(isinstance(one, (Tensor, np.ndarray, Recorded)) for one in given)


def _named(given: Any) -> str:
    if isinstance(given, (tuple, list)):
        return f"{len(given)} of {', '.join(sorted({type(one).__name__ for one in given})) or 'nothing'}"
    return type(given).__name__


def _checked(pair: Any) -> Predicted:
    return _probabilities(pair[0], _SIDES[0]), _probabilities(pair[1], _SIDES[1])


def _probabilities(given: Any, side: str) -> Tensor | Recorded:
    if isinstance(given, Recorded):
        return given
    try:
        found = torch.as_tensor(given).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"predictions of the {side} must be numbers [n, classes]: {error}") from error
    if found.dim() != 2 or not found.is_floating_point() or found.layout != torch.strided:
        raise UserError(
            f"predictions of the {side} must be probabilities [n, classes], got {found.dtype} of shape "
            f"{tuple(found.shape)}" + ("" if found.layout == torch.strided else f", {found.layout}")
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
