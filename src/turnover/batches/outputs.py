"""What the exposed, the flipped and the full network say about a batch, at the least cost.

Where the only masked layer is the input of the final linear layer, everything before it is computed once and shared by
the three networks; otherwise the batch goes through the network three times. That the short way gives what the network
itself gives is tried on the first batch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from turnover.batches.layout import divisible
from turnover.batches.tap import Features, Tap
from turnover.errors import UserError
from turnover.masking.calling import Forward, rows_of, take
from turnover.masking.layer import TurnOverDropout, _Hook, masked_layers
from turnover.masking.probing import probe
from turnover.masking.reruns import Selection
from turnover.masking.subnetworks import subnetwork

NETWORKS = ("exposed", "flipped", "full")
_TRIED = 16  # examples that the short way is tried on
_PROBABILITIES = (
    "the network gives probabilities, not logits: they would go through a second softmax. Leave its last softmax or "
    "sigmoid out, or pass forward=lambda model, batch: call of the network without it"
)


class Outputs(NamedTuple):
    """Logits [batch, classes] of the three networks; a network without masks has the full one's only."""

    full: Tensor
    exposed: Tensor | None = None
    flipped: Tensor | None = None


class MaskedHead(NamedTuple):
    """The final linear layer of a network, and the turn-over dropout on its input."""

    linear: nn.Linear
    dropout: TurnOverDropout

    def weights(self) -> tuple[Tensor, Tensor]:
        """Float32 weights [classes, units] and biases [classes]; of one logit z, those of the logits [0, z]."""
        weight, given = self.linear.weight.detach().float(), self.linear.bias
        bias = weight.new_zeros(len(weight)) if given is None else given.detach().float()
        if len(weight) > 1:
            return weight, bias
        return torch.cat([torch.zeros_like(weight), weight]), torch.cat([torch.zeros_like(bias), bias])


class Reader:
    """Runs one network on batches: three sets of logits, and features.

    Put the network into evaluation mode first (`turnover.batches.passes.evaluating`).

    Args:
        model: any classifier; with turn-over dropout, and `masked`, all three networks are read.
        features, forward: see `Tap`.
        masked: False: the full network only.
    """

    def __init__(
        self, model: nn.Module, features: Features = None, forward: Forward | None = None, *, masked: bool = True
    ) -> None:
        self.model = model
        self.tap = Tap(model, features, forward)
        self.masked = masked and bool(masked_layers(model))
        self.short: MaskedHead | None = None  # where the short way is proved
        self.one_logit = False
        self._tried = False
        self._rows, self._within = 0, True  # examples, and whether all outputs lie in [0, 1]

    def __call__(self, inputs: Any, ids: Tensor | None) -> tuple[Outputs, Tensor | None]:
        """Logits and features of a batch.

        Args:
            inputs: on the device of the model.
            ids: example ids [batch]; row r passes through the sub-networks of ``ids[r]``. None where nothing is masked.

        Raises:
            UserError: the output is not one row of class logits an example, or no forward pass reaches the masks.
        """
        features, full = self.tap(inputs)
        if not self._tried:
            self._try(inputs, full, ids)
        if self.one_logit and self.tap.head is None:
            self._rows += len(full)
            self._within = self._within and bool(((full >= 0) & (full <= 1)).all())
        if not self.masked:
            return Outputs(class_logits(full)), features
        assert ids is not None
        if self.short is not None and features is not None and not self._is_the_head(features, full):
            self.short = None  # clamped, scaled or replaced for these examples
        if self.short is not None and features is not None:
            selections = Selection(ids, flipped=False), Selection(ids, flipped=True)
            halves = [features * self.short.dropout.factors(selection, features, 1) for selection in selections]
            exposed, flipped = (F.linear(half, self.short.linear.weight, self.short.linear.bias) for half in halves)
        else:
            exposed, flipped = (self._through(inputs, ids, flipped=of) for of in (False, True))
        return Outputs(*map(class_logits, (full, exposed, flipped))), features

    def _through(self, inputs: Any, ids: Tensor, *, flipped: bool) -> Tensor:
        with subnetwork(self.model, ids, flipped=flipped):
            return self.tap.forward(self.model, inputs)

    def _is_the_head(self, features: Tensor, full: Tensor) -> bool:
        """Whether the output of this batch is what the head makes of its features."""
        assert self.short is not None
        found = F.linear(features, self.short.linear.weight, self.short.linear.bias)
        return found.is_meta or alike(found.view_as(full), full)

    def finish(self) -> None:
        """Raise UserError if all that the network ever gave were probabilities of one class."""
        if self.one_logit and self.tap.head is None and self._rows >= _TRIED // 2 and self._within:
            raise UserError(_PROBABILITIES)

    def _try(self, inputs: Any, full: Tensor, ids: Tensor | None) -> None:
        """What can be known of a network only from a batch: is its output one that can be scored, and by which way."""
        self._tried = True
        rows = rows_of(inputs) if ids is None else len(ids)
        check_logits(full, rows, of_a_layer=self.tap.head is not None)
        self.one_logit = full.dim() == 1 or full.shape[1] == 1
        if not self.masked:
            return
        assert ids is not None
        some, few = (take(inputs, slice(_TRIED)), ids[:_TRIED]) if divisible(inputs, len(ids)) else (inputs, ids)
        probe(self.model, inputs, self.tap.forward, again=True)  # which may move the mask
        short = short_way(self.model, self.tap.head)
        expected = self._through(some, few, flipped=False)
        if short is None or self.tap.function is not None:
            return
        features, _ = self.tap(some)
        if features is None or features.shape[1] != short.linear.in_features:
            return  # features of the user's choice, which do not enter the head
        factors = short.dropout.factors(Selection(few, flipped=False), features, 1)
        found = F.linear(features * factors, short.linear.weight, short.linear.bias)
        if found.is_meta or alike(found, expected.view_as(found)):
            self.short = short


def alike(found: Tensor, expected: Tensor) -> bool:
    """Whether two ways give the same, up to rounding; rows that overflow somewhere say nothing."""
    sound = expected.isfinite()
    if not bool(sound.any()):
        return False
    tolerance = (1e-4 if found.dtype in (torch.float32, torch.float64) else 3e-2) * float(expected[sound].abs().max())
    return torch.allclose(found[sound], expected[sound], rtol=0, atol=tolerance)


def short_way(model: nn.Module, head: nn.Linear | None) -> MaskedHead | None:
    """`head`, if the only mask of `model` is on its input, and it is a plain linear layer, of which nothing but its
    weights decides what it gives."""
    layers = masked_layers(model)
    if head is None or len(layers) != 1 or type(head) is not nn.Linear or "forward" in vars(head):
        return None
    hooks = [*head._forward_pre_hooks.values(), *head._forward_hooks.values()]
    ours = [hook for hook in hooks if isinstance(hook, _Hook) and hook.layer is layers[0]]
    plain = type(head.weight) is nn.Parameter and getattr(head, "_compiled_call_impl", None) is None
    if len(hooks) != 1 or len(ours) != 1 or head._forward_hooks or not plain:
        return None
    return MaskedHead(head, layers[0])


def class_logits(logits: Tensor) -> Tensor:
    """Logits [batch, classes]: one logit z a row, [batch] or [batch, 1], are the logits [0, z] of two classes."""
    if logits.dim() == 1:
        logits = logits.unsqueeze(1)
    return torch.cat([torch.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits


def check_logits(logits: Tensor, rows: int, *, of_a_layer: bool) -> None:
    """Raise UserError unless `logits` are one row of class logits for each of `rows` examples.

    Args:
        of_a_layer: they are the output of a linear layer, so they cannot be probabilities.
    """
    if logits.dim() not in (1, 2) or len(logits) != rows or not logits.is_floating_point():
        raise UserError(
            f"the network gives {logits.dtype} of shape {tuple(logits.shape)} for {rows} examples: scores are for "
            "class logits [batch, classes] and one integer label a row; of tokens, pixels or boxes pass "
            "forward=lambda model, batch: ... with one row of logits an example"
        )
    if of_a_layer or logits.is_meta or not rows:
        return
    values = logits.detach().float()
    if bool(((values >= 0) & (values <= 1)).all()):
        several = values.dim() == 2 and values.shape[1] > 1
        if bool(((values.sum(1) - 1).abs() < 1e-3).all()) if several else rows >= _TRIED // 2:
            raise UserError(_PROBABILITIES)


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
