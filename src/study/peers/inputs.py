"""What every peer gets: trained networks, the training examples, the targets.

The common signature is ``peer(networks, train, targets, ...) -> Tensor [train, target]`` for influence and
``peer_self(networks, train, ...) -> Tensor [train]`` for self-influence. Positive influence helps; a large
self-influence is much memorized. A peer that works on one network takes the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from study.networks.zoo.small import Normalized
from turnover.errors import UserError
from turnover.masking.insertion import head
from turnover.reading.examples import Examples
from turnover.reading.features import features_and_logits
from turnover.reading.passes import evaluating

EXTRA = ("captum", "dattri", "cleanlab")
_MODULES = (
    "captum.influence",
    "cleanlab.filter",
    "cleanlab.rank",
    "dattri.algorithm.influence_function",
    "dattri.algorithm.rps",
    "dattri.algorithm.tracin",
    "dattri.algorithm.trak",
    "dattri.task",
)


@dataclass(frozen=True)
class TrainedNetwork:
    """An ordinary network, fully trained, and what its training left behind.

    Args:
        model: with its final weights.
        checkpoints: state dicts at some epochs, in order. Not the last ones alone: where the schedule ends at a
            learning rate of 0, a sum weighted with the learning rate needs checkpoints from the middle.
        learning_rates: at the checkpoints.
    """

    model: nn.Module
    checkpoints: tuple[Mapping[str, Tensor], ...] = ()
    learning_rates: tuple[float, ...] = ()


def check_extra() -> None:
    """Raise a UserError that names the command if a package of the extra ``compare`` is missing."""
    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise UserError(
            f"the comparison with other estimators needs {', '.join(missing)}, not installed here: run `make setup`, "
            'or pip install "turnover[compare]"'
        )


def import_extra() -> None:
    """Import what the adapters use, so that the seconds of whichever comes first are not those of its imports."""
    for name in _MODULES:
        import_module(name)


def head_features(model: nn.Module, examples: Examples, batch_size: int = 512) -> tuple[Tensor, Tensor]:
    """What enters the last linear layer, and what leaves it, in evaluation mode.

    Returns:
        float32 features [n, units] and logits [n, classes].

    Raises:
        ValueError: the model's output is not that of its last linear layer.
    """
    features, logits = [], []
    with evaluating(model), torch.no_grad():
        for batch in examples.in_order(batch_size):
            before, after = features_and_logits(model, head(model), batch.images)
            if before is None:
                raise ValueError("the network's output is not that of its last linear layer")
            features.append(before.float())
            logits.append(after.float())
    return torch.cat(features), torch.cat(logits)


def plain(model: nn.Module, images: Tensor) -> tuple[nn.Module, Tensor]:
    """The network and its inputs without `Normalized`, whose memory layout `torch.func.vmap` does not know."""
    if isinstance(model, Normalized):
        return model.network, (images.float() - model._shift) * model._scale
    return model, images.float()
