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
from turnover.masking.layer import TurnOverDropout, _MaskInput, masked_layers, masking_hooks
from turnover.masking.reruns import Selection
from turnover.masking.subnetworks import subnetwork
from turnover.reading.checks import Inputs, check_example_ids, check_inputs, check_labels
from turnover.reading.features import features_and_logits
from turnover.reading.passes import device_of, evaluating

NETWORKS = ("exposed", "flipped", "full")


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
            selections = Selection(ids, flipped=False), Selection(ids, flipped=True)
            halves = [features * masked.dropout.factors(selection, features, 1) for selection in selections]
            exposed, flipped = (F.linear(half, masked.linear.weight, masked.linear.bias) for half in halves)
            return Outputs(exposed, flipped, full)
    else:
        full = model(x)
    with subnetwork(model, ids):
        exposed = model(x)
    refuse_unreached(model)
    with subnetwork(model, ids, flipped=True):
        flipped = model(x)
    return Outputs(exposed, flipped, full)


def evaluate(model: nn.Module, x: Inputs, y: Tensor, ids: Tensor, *, batch_size: int = 512) -> dict[str, Tensor]:
    """Loss, margin and probability of the given label of every example, in the exposed, flipped and full networks.

    Args:
        model: a network with turn-over dropout. Evaluated in evaluation mode, and left in the mode it was in.
        x: inputs [n, ...], as the model takes them; batches of them, and of all else, go to the device of the model.
        y: labels [n], integers of any type.
        ids: example ids [n].
        batch_size: examples a forward pass; the results do not depend on it (beyond rounding).

    Returns:
        ``loss_exposed``, ``margin_exposed``, ... ``margin_full``: float32 [n] on the CPU. An example is classified
        correctly where the margin is positive; the probability of its label is ``exp(-loss)``.

    Raises:
        TypeError: `x` is no tensor, or `y` or `ids` is not an integer tensor.
        ValueError: lengths differ, there are no examples, labels are not [n] or outside of the network's classes, the
            model has no turn-over dropout, or its forward pass reaches none of it.
    """
    check_inputs(x)
    y = check_labels(y, name="y")
    check_example_ids(ids, warn_of_repeats=False)
    if not len(x) == len(y) == len(ids):
        raise ValueError(f"x, y and ids must have one row an example, got {len(x)}, {len(y)} and {len(ids)}")
    if not len(ids):
        raise UserError("x, y and ids are empty: pass at least one example")
    parts: dict[str, list[Tensor]] = {f"{kind}_{of}": [] for of in NETWORKS for kind in ("loss", "margin")}
    device = device_of(model)
    with evaluating(model):
        for start in range(0, len(ids), batch_size):
            rows = slice(start, start + batch_size)
            found = outputs(model, x[rows].to(device), ids[rows])
            if start == 0:  # only now is the number of classes known
                check_labels(y, found.full.shape[-1])
            labels = y[rows].to(device)
            for of, logits in zip(NETWORKS, found, strict=True):
                loss, margin = loss_and_margin(logits, labels)
                parts[f"loss_{of}"].append(loss.cpu())
                parts[f"margin_{of}"].append(margin.cpu())
    return {key: torch.cat(pieces) for key, pieces in parts.items()}


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
