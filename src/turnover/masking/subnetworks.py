"""`subnetwork`, which says whose masks apply."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from turnover.errors import UserError
from turnover.masking.ids import example_ids
from turnover.masking.layer import TurnOverDropout, masked_layers, masking_hooks
from turnover.masking.probing import probing
from turnover.masking.reruns import Selection
from turnover.masking.selections import current_selections, selecting

_lock = threading.Lock()


@contextmanager
def subnetwork(model: nn.Module, ids: Any, *, flipped: bool = False) -> Iterator[None]:
    """Within this context, row r of any batch that `model` sees passes through the sub-network of ``ids[r]``.

    >>> model = insert(torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3)))
    >>> x = torch.randn(3, 4)
    >>> with subnetwork(model, ["a", "b", "c"]):  # or integers
    ...     exposed = model(x)
    >>> with subnetwork(model, ["a", "b", "c"], flipped=True):
    ...     flipped = model(x)
    >>> torch.allclose((exposed + flipped) / 2, model(x), atol=1e-6)  # masks before the last layer: the full network
    True

    Contexts nest (the inner one counts) and are local to the thread; `model` may be wrapped (torch.compile,
    DistributedDataParallel, a Lightning module). With activation checkpointing (``use_reentrant=False``) call
    ``backward()`` inside the context: it runs the forward pass again. Enter it outside of compiled code.

    A few rows of the first batch that `model` itself is called with go through it a few times more, without a trace in
    it, to see whether masks hold in this network (`turnover.masking.probing`); forward hooks run in these passes, too.

    Args:
        model: a network with turn-over dropout.
        ids: ids [batch] of the training examples: integers of any type, or names (strings), in a tensor on any device,
            an array or a list. [batch, k] for rows that are mixed from k examples (mixup, cutmix): such a row passes
            through the units that all k keep.
        flipped: pass through the complements, which never trained on these examples.

    Raises:
        UserError: the model has no turn-over dropout, or the block ends and no masked layer has run in it; within the
            context, a batch with another number of rows, or a network in which masks do not hold.
        TypeError: ids are neither integers nor names.
    """
    ids = example_ids(ids)
    layers = masked_layers(model)
    if not layers:
        raise UserError("the model has no turn-over dropout: call insert(model, ...) first")
    selection = Selection(ids, flipped)
    outer = current_selections()
    with ExitStack() as stack:
        stack.enter_context(_open(layers))
        stack.enter_context(probing(model, layers))
        stack.enter_context(selecting({**outer, **{layer._number: selection for layer in layers}}))
        yield
    if not selection.reached:
        names = ", ".join(repr(hook.name) for _, hook in masking_hooks(model))
        raise UserError(
            f"the forward pass never reaches the turn-over dropout{f' inserted at {names}' if names else ''}, so no "
            "mask had any effect in this `with subnetwork(...)`: call the same model that it was given; if that was "
            "compiled and run before insert(model), call torch.compiler.reset() after insert; if its forward pass does "
            "not call these modules, call remove(model), then insert(model, after=[...]) with names of modules that it "
            "calls"
        )
    for layer in layers:  # what ran in here ran in the block around it, too
        if layer._number in outer:
            outer[layer._number].reached = True


@contextmanager
def _open(layers: list[TurnOverDropout]) -> Iterator[None]:
    """Within: the layers know of it, in all threads."""
    with _lock:
        for layer in layers:
            layer._open += 1
    try:
        yield
    finally:
        with _lock:
            for layer in layers:
                layer._open -= 1
