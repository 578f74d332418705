"""Influence functions, TracIn, TRAK and representer points through dattri (needs the extra ``compare``).

All on the head: the parameters are those of the last linear layer, the data what enters it, so a method costs seconds.

Dattri 0.3's pitfalls that are met here: projector settings are one dictionary shared by all attributors (all of them
are given each time); TRAK's margin is computed without ``log(1 - p)``, which is infinite at p = 1 and would be
zeroed silently; the explicit inverse Hessian is summed over batches (one batch is passed).
"""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader, TensorDataset

from study.peers.inputs import TrainedNetwork, plain
from turnover.batches.examples import Examples
from turnover.masking.insertion import head
from turnover.reading.features import features_of

Loader = DataLoader[tuple[Tensor, ...]]
BATCH = 500


def influence_function(
    networks: Sequence[TrainedNetwork],
    train: Examples,
    targets: Examples | None,
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
        float32 [train, target], positive where i helps (not divided by n); without targets the curvature-weighted size
        of every example's own gradient, [train].
    """
    from dattri.algorithm.influence_function import IFAttributorExplicit

    model, project = _reduced_head(networks[0].model, train, components)

    loader = _loader(project(train), train.labels)
    with _quiet():
        attributor = IFAttributorExplicit(_task(model, _loss_of(model)), regularization=damping)
        attributor.cache(loader)
        return _attribute(attributor, loader, None if targets is None else _loader(project(targets), targets.labels))


def tracin(networks: Sequence[TrainedNetwork], train: Examples, targets: Examples | None) -> Tensor:
    """TracIn over the checkpoints of the first network.

    Pruthi, Liu, Kale, Sundararajan (2020, arXiv 2002.08484): the influence of i on t is
    ``sum over checkpoints k of lr_k * grad L_k(i) . grad L_k(t)``, the drop of t's loss that steps on i brought, to
    first order. Of the head its weights count, without its bias: ``sum_k lr_k (h_i . h_t) (dL_i/dz . dL_t/dz)``.

    Returns:
        float32 [train, target], positive where i helps; without targets the influence of i on itself, [train].

    Raises:
        ValueError: there is no checkpoint, or not one learning rate for each.
    """
    from dattri.algorithm.tracin import TracInAttributor

    network = networks[0]
    if not network.checkpoints or len(network.checkpoints) != len(network.learning_rates):
        raise ValueError(
            f"{len(network.checkpoints)} checkpoints and {len(network.learning_rates)} learning rates: TracIn needs as "
            "many of both, at least one"
        )
    model = copy.deepcopy(network.model).eval()
    linear = head(model)
    if linear.bias is not None:  # dattri takes the gradients of those that require them
        linear.bias.requires_grad_(False)
    found = torch.zeros(())
    for state, rate in zip(network.checkpoints, network.learning_rates, strict=True):
        model.load_state_dict(state)
        loader = _loader(features_of(model, train.images), train.labels, BATCH)
        goals = None if targets is None else _loader(features_of(model, targets.images), targets.labels)
        with _quiet():
            attributor = TracInAttributor(
                _task(linear, _loss_of(linear)), torch.tensor([rate]), normalized_grad=False, projector_kwargs={}
            )
            attributor.projector_kwargs = None  # None in the constructor means the default projection, not none
            found = found + _attribute(attributor, loader, goals)
    return found


def trak(
    networks: Sequence[TrainedNetwork],
    train: Examples,
    targets: Examples | None,
    *,
    dimension: int = 512,
    regularization: float = 0.0,
) -> Tensor:
    """TRAK over all given networks.

    Park, Georgiev, Ilyas, Leclerc, Madry (2023, arXiv 2303.14186): with phi the gradient of the margin
    ``log(p / (1 - p))``, projected to `dimension` numbers, ``phi(t)' (Phi' Phi + regularization)^-1 phi(i)`` averaged
    over networks, times the average of ``1 - p_i``.

    Returns:
        float32 [train, target], positive where i helps; without targets the same of i and i, [train].
    """
    from dattri.algorithm.trak import TRAKAttributor

    model, x = plain(copy.deepcopy(networks[0].model).eval(), train.images)
    model.requires_grad_(False)  # dattri takes the gradients of those that require them
    head(model).requires_grad_(True)
    states = [plain(network.model, train.images[:0])[0].state_dict() for network in networks]

    def margin(values: Mapping[str, Tensor], data: tuple[Tensor, Tensor]) -> Tensor:
        x, y = data
        logits: Tensor = functional_call(model, dict(values), (x.unsqueeze(0),)).squeeze(0)
        own = torch.arange(len(logits)) == y
        others = logits.masked_fill(own, -torch.inf).logsumexp(0)
        return logits.masked_fill(~own, 0.0).sum() - others

    def probability(values: Mapping[str, Tensor], data: tuple[Tensor, Tensor]) -> Tensor:
        return margin(values, data).sigmoid()

    settings = {"proj_dim": dimension, "proj_max_batch_size": 32, "proj_seed": 0, "device": "cpu"}
    attributor = TRAKAttributor(
        _task(model, margin, states), probability, projector_kwargs=settings, regularization=regularization
    )
    loader = _loader(x, train.labels, BATCH)
    with _quiet():
        if targets is None:  # not after cache(): there it fails
            return _attribute(attributor, loader, None)
        attributor.cache(loader)
        _, x_target = plain(networks[0].model, targets.images)
        found: Tensor = attributor.attribute(_loader(x_target, targets.labels, BATCH))
    return found.detach()


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

    model = networks[0].model
    loader, goals = (_loader(features_of(model, of.images), of.labels) for of in (train, targets))
    wrapped = nn.Sequential()
    wrapped.add_module("head", copy.deepcopy(head(model)))
    with _quiet():
        attributor = RPSAttributor(_task(wrapped, F.cross_entropy), "head", l2_strength=strength, epoch=epochs)
        attributor.cache(loader)
        found: Tensor = attributor.attribute(loader, goals)
    return found.detach() * len(train)  # given a mean loss, dattri divides by n once too often


def _reduced_head(model: nn.Module, train: Examples, components: int) -> tuple[nn.Linear, Callable[[Examples], Tensor]]:
    """The head on the principal components of its input, and what gives these [n, components] for examples."""
    features = features_of(model, train.images)
    mean = features.mean(0)
    _, vectors = torch.linalg.eigh((features - mean).T.double() @ (features - mean).double())
    basis = vectors[:, -min(components, *features.shape) :].float()
    weight, bias = head(model).weight.detach().float(), head(model).bias
    reduced = nn.Linear(basis.shape[1], len(weight))
    with torch.no_grad():
        reduced.weight.copy_(weight @ basis)
        reduced.bias.copy_(weight @ mean + (0.0 if bias is None else bias.detach()))
    return reduced, lambda examples: (features_of(model, examples.images) - mean) @ basis


def _attribute(attributor: Any, train: Loader, targets: Loader | None) -> Tensor:
    """The influence [train, target], or the self-influence [train]."""
    found: Tensor = attributor.self_attribute(train) if targets is None else attributor.attribute(train, targets)
    return found.detach().flatten() if targets is None else found.detach()


def _task(model: nn.Module, function: Callable[..., Tensor], states: Sequence[Any] = ()) -> Any:
    from dattri.task import AttributionTask

    return AttributionTask(loss_func=function, model=model, checkpoints=list(states) or [model.state_dict()])


def _loss_of(model: nn.Module) -> Callable[..., Tensor]:
    """The loss of a single example, or the mean loss of several, as a function of parameters."""

    def loss(values: Mapping[str, Tensor], data: tuple[Tensor, Tensor]) -> Tensor:
        x, y = data
        return F.cross_entropy(functional_call(model, dict(values), (x,)), y)

    return loss


def _loader(x: Tensor, y: Tensor, batch_size: int | None = None) -> Loader:
    """Batches of so many, or all in one."""
    return DataLoader(TensorDataset(x, y), batch_size=min(batch_size or len(y), len(y)))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without dattri's progress bars."""
    with contextlib.redirect_stderr(io.StringIO()):
        yield
