"""What every peer gets: trained networks, the training examples, the targets.

The common signature is ``peer(networks, train, targets, ...) -> Tensor [train, target]``, positive where i helps. Most
take None for the targets too: then it is the self-influence, Tensor [train], large where much is memorized. A peer that
works on one network takes the first. A score of training examples alone has the signature of a self-influence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

from torch import Tensor, nn

from study.networks.zoo.small import Normalized
from turnover.errors import UserError

EXTRA = ("dattri", "cleanlab", "datasets", "kronfluence")
_MODULES = (
    "cleanlab.datalab.datalab",
    "cleanlab.filter",
    "cleanlab.rank",
    "dattri.algorithm.influence_function",
    "dattri.algorithm.rps",
    "dattri.algorithm.tracin",
    "dattri.algorithm.trak",
    "dattri.task",
    "kronfluence.analyzer",
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


def plain(model: nn.Module, images: Tensor) -> tuple[nn.Module, Tensor]:
    """The network and its inputs without `Normalized`, whose memory layout `torch.func.vmap` does not know."""
    if isinstance(model, Normalized):
        return model.network, (images.float() - model._shift) * model._scale
    return model, images.float()
