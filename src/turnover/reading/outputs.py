"""What the exposed, the flipped and the full network say about a batch, at the least cost.

Where the only masked layer is the input of the final linear layer, everything before it is computed once and
shared by the three networks; otherwise the batch goes through the network three times.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from turnover.errors import UserError
from turnover.masking.insertion import head
from turnover.masking.layer import TurnOverDropout, _MaskInput, masked_layers, masking_hooks, subnetwork


class Outputs(NamedTuple):
    """Logits [batch, classes] of the three networks."""

    exposed: Tensor
    flipped: Tensor
    full: Tensor


class MaskedHead(NamedTuple):
    """The final linear layer of a network, and the turn-over dropout on its input."""

    linear: nn.Linear
    dropout: TurnOverDropout


def masked_head(model: nn.Module) -> MaskedHead | None:
    """The masked final linear layer, if that is the only masked layer of `model`; else None.

    Whether the network's output really is this layer's output (and not, say, a log-softmax of it) is only known
    once a batch has gone through: see `features_and_logits`.
    """
    layers = masked_layers(model)
    if len(layers) != 1:
        return None
    linear = head(model)
    for hook in linear._forward_pre_hooks.values():
        if isinstance(hook, _MaskInput) and hook.layer is layers[0]:
            return MaskedHead(linear, layers[0])
    return None


def features_and_logits(model: nn.Module, linear: nn.Linear, x: Tensor) -> tuple[Tensor | None, Tensor]:
    """One full forward pass that also catches what goes into `linear`.

    Returns:
        Features [batch, units] as they enter `linear`, or None where `linear` does not give the network's output (so
        that nothing can be derived from its input), and the logits [batch, classes].
    """
    caught: list[tuple[Tensor, Tensor]] = []
    handle = linear.register_forward_hook(lambda module, args, output: caught.append((args[0], output)))
    try:
        logits = model(x)
    finally:
        handle.remove()
    if len(caught) == 1 and caught[0][1] is logits and caught[0][0].dim() == 2:
        return caught[0][0], logits
    return None, logits


def outputs(model: nn.Module, x: Tensor, ids: Tensor) -> Outputs:
    """Logits of the exposed, flipped and full networks for a batch.

    Args:
        model: a network with turn-over dropout. Put it into evaluation mode first: `outputs` leaves the mode alone.
        x: inputs [batch, ...].
        ids: example ids [batch]; row r passes through the sub-networks of ``ids[r]``.

    Raises:
        ValueError: the model has no turn-over dropout, or its forward pass reaches none of it.
    """
    masked = masked_head(model)
    if masked is not None:
        features, full = features_and_logits(model, masked.linear, x)
        if features is not None:
            mask = masked.dropout.masks(features.shape[1])(ids).to(features.device)
            keep = masked.dropout.keep
            exposed = F.linear(features * mask / keep, masked.linear.weight, masked.linear.bias)
            flipped = F.linear(features * ~mask / (1.0 - keep), masked.linear.weight, masked.linear.bias)
            return Outputs(exposed, flipped, full)
    else:
        full = model(x)
    with subnetwork(model, ids):
        exposed = model(x)
    refuse_unreached(model)
    with subnetwork(model, ids, flipped=True):
        flipped = model(x)
    return Outputs(exposed, flipped, full)


def refuse_unreached(model: nn.Module) -> None:
    """Raise if no forward pass has reached turn-over dropout yet. Call it after one under `subnetwork`.

    One masked layer is enough: another one may belong to an auxiliary head that only runs in training.

    Raises:
        UserError: the masks never counted.
    """
    # The layers keep this flag anyway, compiled or not: hooks of our own would make the compiler start again.
    if any(layer._ever_selected for layer in masked_layers(model)):
        return
    names = ", ".join(repr(hook.name) for _, hook in masking_hooks(model))
    raise UserError(
        f"the forward pass never reaches the turn-over dropout{f' inserted at {names}' if names else ''}, so no mask "
        'has any effect (after="head" takes the torch.nn.Linear that was registered last): call remove(model), then '
        "insert(model, after=[...]) with names of modules that the forward pass calls"
    )


def loss_and_margin(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy and margin of every row, in float32.

    Args:
        logits: [..., classes].
        y: labels [...].

    Returns:
        Loss [...] in nats; margin [...], the logit of the label minus the largest other logit. The row is
        classified correctly exactly where the margin is positive.
    """
    logits = logits.float()
    of_label = logits.gather(-1, y.unsqueeze(-1))
    loss = logits.logsumexp(-1) - of_label.squeeze(-1)
    others = logits.scatter(-1, y.unsqueeze(-1), -torch.inf)
    return loss, of_label.squeeze(-1) - others.amax(-1)
