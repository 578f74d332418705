"""Influence functions, TracIn, TRAK and representer points through dattri (needs the extra ``compare``).

On the head: the parameters are those of the last linear layer, the data what enters it, so a method costs seconds. On
all parameters they cost minutes (see docs/validation.md).

Dattri 0.3's pitfalls that are met here: projector settings are one dictionary shared by all attributors (all of them
are given each time); TRAK's margin is computed without ``log(1 - p)``, which is infinite at p = 1 and would be
zeroed silently; the explicit inverse Hessian is summed over batches (one batch is passed).
"""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader, TensorDataset

from study.peers.inputs import TrainedNetwork, head_features, plain
from turnover.masking.insertion import head
from turnover.reading.examples import Examples

Parameters = Literal["head", "all"]
Loader = DataLoader[tuple[Tensor, ...]]


def influence_function(
    networks: Sequence[TrainedNetwork],
    train: Examples,
    targets: Examples,
    *,
    components: int = 128,
    damping: float = 1e-3,
) -> Tensor:
    """Influence function with the explicit inverse Hessian, on the head of the first network.

    Koh and Liang (2017, arXiv 1703.04730): leaving i out changes the loss of t by ``grad L(t)' H^-1 grad L(i) / n``, H
    the Hessian of the mean training loss plus `damping` on its diagonal. The features are reduced to their first
    principal components: with all 2,048 units of the study's network and 10 classes the Hessian has 20,490 rows, which
    is 1.7 GB once, and several times that while it is made.

    Returns:
        float32 [train, target], positive where i helps (not divided by n).
    """
    model, inputs, others = _reduced_head(networks[0].model, train, targets, components)
    return _explicit(model, damping, _whole(inputs, train.labels), _whole(others, targets.labels))


def influence_function_self(
    networks: Sequence[TrainedNetwork], train: Examples, *, components: int = 128, damping: float = 1e-3
) -> Tensor:
    """Self-influence [train] by `influence_function`: the curvature-weighted size of an example's gradient."""
    model, inputs, _ = _reduced_head(networks[0].model, train, train[:1], components)
    return _explicit(model, damping, _whole(inputs, train.labels), None)


def tracin(
    networks: Sequence[TrainedNetwork],
    train: Examples,
    targets: Examples,
    *,
    parameters: Parameters = "head",
    batch_size: int = 500,
) -> Tensor:
    """TracIn, see `study.peers.with_captum`; here with the bias, and on all parameters if asked for."""
    from dattri.algorithm.tracin import TracInAttributor

    network = networks[0]
    total = torch.zeros(len(train), len(targets))
    for state, rate in zip(network.checkpoints, network.learning_rates, strict=True):
        model, x, x_target = _view(network.model, state, train, targets, parameters)
        with _quiet():
            attributor = TracInAttributor(
                _task(model, _one_loss(model)), torch.tensor([rate]), normalized_grad=False, projector_kwargs={}
            )
            attributor.projector_kwargs = None  # None in the constructor means the default projection, not none
            total += attributor.attribute(
                _loader(x, train.labels, batch_size), _loader(x_target, targets.labels, len(targets))
            ).detach()
    return total


def trak(
    networks: Sequence[TrainedNetwork],
    train: Examples,
    targets: Examples,
    *,
    parameters: Parameters = "head",
    dimension: int = 512,
    regularization: float = 0.0,
    batch_size: int = 500,
    seed: int = 0,
) -> Tensor:
    """TRAK over all given networks.

    Park, Georgiev, Ilyas, Leclerc, Madry (2023, arXiv 2303.14186): with phi the gradient of the margin
    ``log(p / (1 - p))``, projected to `dimension` numbers, ``phi(t)' (Phi' Phi + regularization)^-1 phi(i)`` averaged
    over networks, times the average of ``1 - p_i``.

    Returns:
        float32 [train, target], positive where i helps.
    """
    attributor = _trak(networks, parameters, dimension, regularization, seed)
    _, x = plain(networks[0].model, train.images)
    _, x_target = plain(networks[0].model, targets.images)
    with _quiet():
        attributor.cache(_loader(x, train.labels, batch_size))
        found: Tensor = attributor.attribute(_loader(x_target, targets.labels, batch_size))
    return found.detach()


def trak_self(
    networks: Sequence[TrainedNetwork],
    train: Examples,
    *,
    parameters: Parameters = "head",
    dimension: int = 512,
    regularization: float = 0.0,
    batch_size: int = 500,
    seed: int = 0,
) -> Tensor:
    """Self-influence [train] by `trak`."""
    attributor = _trak(networks, parameters, dimension, regularization, seed)
    _, x = plain(networks[0].model, train.images)
    with _quiet():  # not after cache(): there it fails
        found: Tensor = attributor.self_attribute(_loader(x, train.labels, batch_size))
    return found.detach().flatten()


def representer_points(
    networks: Sequence[TrainedNetwork],
    train: Examples,
    targets: Examples,
    *,
    strength: float = 0.003,
    epochs: int = 300,
) -> Tensor:
    """Representer point selection on the head of the first network.

    Yeh, Kim, Yen, Ravikumar (2018, arXiv 1811.09720): the head is trained on until its weights, with an L2 penalty of
    `strength`, reproduce the network's own predictions; then a logit is a sum over training examples of
    ``-dL_i/dz / (2 strength n) * (h_i . h_t)``, of which the one for the target's label is returned.

    Returns:
        float32 [train, target], positive where i raises the logit of t's label.
    """
    from dattri.algorithm.rps import RPSAttributor

    model, x, x_target = _view(networks[0].model, None, train, targets, "head")
    wrapped = nn.Sequential()
    wrapped.add_module("head", model)

    def of_logits(logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits, target)

    with _quiet():
        attributor = RPSAttributor(_task(wrapped, of_logits), "head", l2_strength=strength, epoch=epochs)
        attributor.cache(_whole(x, train.labels))
        found: Tensor = attributor.attribute(_whole(x, train.labels), _whole(x_target, targets.labels))
    return found.detach() * len(train)  # given a mean loss, dattri divides by n once too often


def _reduced_head(
    model: nn.Module, train: Examples, targets: Examples, components: int
) -> tuple[nn.Linear, Tensor, Tensor]:
    """The head on the principal components of its input: the layer, and both inputs [n, components]."""
    features, _ = head_features(model, train)
    of_targets, _ = head_features(model, targets)
    mean = features.mean(0)
    _, vectors = torch.linalg.eigh((features - mean).T.double() @ (features - mean).double())
    basis = vectors[:, -min(components, *features.shape) :].float()
    weight, bias = head(model).weight.detach().float(), head(model).bias
    reduced = nn.Linear(basis.shape[1], len(weight))
    with torch.no_grad():
        reduced.weight.copy_(weight @ basis)
        reduced.bias.copy_(weight @ mean + (0.0 if bias is None else bias.detach()))
    return reduced, (features - mean) @ basis, (of_targets - mean) @ basis


def _explicit(model: nn.Linear, damping: float, train: Loader, targets: Loader | None) -> Tensor:
    from dattri.algorithm.influence_function import IFAttributorExplicit

    def mean_loss(parameters: Mapping[str, Tensor], data: tuple[Tensor, Tensor]) -> Tensor:
        x, y = data
        return F.cross_entropy(functional_call(model, dict(parameters), (x,)), y)

    with _quiet():
        attributor = IFAttributorExplicit(_task(model, mean_loss), regularization=damping)
        attributor.cache(train)
        found: Tensor = attributor.self_attribute(train) if targets is None else attributor.attribute(train, targets)
    return found.detach()


def _trak(
    networks: Sequence[TrainedNetwork], parameters: Parameters, dimension: int, regularization: float, seed: int
) -> Any:
    from dattri.algorithm.trak import TRAKAttributor

    model, _ = plain(copy.deepcopy(networks[0].model).eval(), torch.empty(0))
    if parameters == "head":  # dattri takes the gradients of those that require them
        model.requires_grad_(False)
        head(model).requires_grad_(True)
    states = [plain(network.model, torch.empty(0))[0].state_dict() for network in networks]

    def logits_of(values: Mapping[str, Tensor], x: Tensor) -> Tensor:
        logits: Tensor = functional_call(model, dict(values), (x.unsqueeze(0),))
        return logits.squeeze(0)

    def margin(values: Mapping[str, Tensor], data: tuple[Tensor, Tensor]) -> Tensor:
        x, y = data
        logits = logits_of(values, x)
        own = torch.arange(len(logits)) == y
        others = logits.masked_fill(own, -torch.inf).logsumexp(0)
        return logits.masked_fill(~own, 0.0).sum() - others

    def probability(values: Mapping[str, Tensor], data: tuple[Tensor, Tensor]) -> Tensor:
        return margin(values, data).sigmoid()

    settings = {"proj_dim": dimension, "proj_max_batch_size": 32, "proj_seed": seed, "device": "cpu"}
    return TRAKAttributor(
        _task(model, margin, states), probability, projector_kwargs=settings, regularization=regularization
    )


def _view(
    model: nn.Module, state: Mapping[str, Tensor] | None, train: Examples, targets: Examples, parameters: Parameters
) -> tuple[nn.Module, Tensor, Tensor]:
    """A copy of the model at a checkpoint, or of its head alone, and what goes into it for both kinds of examples."""
    model = copy.deepcopy(model).eval()
    if state is not None:
        model.load_state_dict(state)
    if parameters == "head":
        return head(model), head_features(model, train)[0], head_features(model, targets)[0]
    network, x = plain(model, train.images)
    return network, x, plain(model, targets.images)[1]


def _task(model: nn.Module, function: Callable[..., Tensor], states: Sequence[Any] | None = None) -> Any:
    from dattri.task import AttributionTask

    checkpoints = [model.state_dict()] if states is None else list(states)
    return AttributionTask(loss_func=function, model=model, checkpoints=checkpoints)


def _one_loss(model: nn.Module) -> Callable[..., Tensor]:
    """The loss of a single example as a function of parameters."""

    def loss(values: Mapping[str, Tensor], data: tuple[Tensor, Tensor]) -> Tensor:
        x, y = data
        return F.cross_entropy(functional_call(model, dict(values), (x.unsqueeze(0),)), y.unsqueeze(0))

    return loss


def _loader(x: Tensor, y: Tensor, batch_size: int) -> Loader:
    return DataLoader(TensorDataset(x, y), batch_size=min(batch_size, len(y)))


def _whole(x: Tensor, y: Tensor) -> Loader:
    return _loader(x, y, len(y))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without dattri's progress bars."""
    with contextlib.redirect_stderr(io.StringIO()):
        yield
