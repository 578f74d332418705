"""What enters the layer before the head, where that is a plain linear layer and ReLU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from turnover.batches.layout import divisible
from turnover.batches.passes import run_and_catch
from turnover.batches.tap import Tap
from turnover.errors import UserError
from turnover.masking.calling import rows_of, take
from turnover.reading.features import LARGEST

_TRIED = 16  # examples that the layer is looked for with


def inner_layer(tap: Tap, inputs: Any) -> nn.Linear | None:
    """The linear layer whose outputs are, through ReLU, what enters the head; None where there is none.

    Args:
        tap: whose features are what enters the head.
        inputs: of a batch, on the device of the model.
    """
    head = tap.head
    if head is None or tap.function is not None or tap._module is not head:
        return None
    before: list[nn.Linear] = [
        module
        for module in tap.model.modules()
        if isinstance(module, nn.Linear)
        and module is not head
        and module.out_features == head.in_features
        and module.in_features <= LARGEST
    ]
    if not before:
        return None
    few = take(inputs, slice(_TRIED)) if divisible(inputs, rows_of(inputs)) else inputs
    _, caught = run_and_catch(tap.model, [*before, head], tap.forward, few)
    ran = [module for module, _, _ in caught]
    entering = [given for module, given, _ in caught if module is head]
    if len(entering) != 1 or not _is_rows(entering[0]):
        return None
    for module, given, gave in reversed(caught):
        if not isinstance(module, nn.Linear) or module is head or ran.count(module) > 1:
            continue
        # ReLU of what ReLU gave changes nothing, so it may have been done in place.
        if _is_rows(given) and _is_rows(gave) and torch.equal(gave.relu(), entering[0]):
            return module
    return None


class Catching:
    """Within: what enters a layer is kept, each time that it runs."""

    def __init__(self, layer: nn.Linear) -> None:
        self._layer = layer
        self._caught: list[Tensor] = []

    def __enter__(self) -> Catching:
        self._caught.clear()
        self._handle = self._layer.register_forward_pre_hook(lambda module, given: self._caught.append(given[0]))
        return self

    def __exit__(self, *error: object) -> None:
        self._handle.remove()

    @property
    def first(self) -> Tensor:
        """What entered it first: in the full network, which is run before its sub-networks.

        Raises:
            UserError: it did not run.
        """
        if not self._caught:
            raise UserError(
                "the layer before the head did not run for every batch, so examples cannot be compared by what enters "
                "it: name another module in `features`"
            )
        return self._caught[0].detach()


def _is_rows(value: Any) -> bool:
    return isinstance(value, Tensor) and not value.is_nested and not value.is_meta and value.dim() == 2
