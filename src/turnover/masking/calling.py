"""How anybody's network is called with a batch, and where the logits are in what it gives."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from turnover.errors import UserError

# Logits [batch, classes] from the network and one batch, for whatever `call` and `logits_of` do not cover.
Forward = Callable[[nn.Module, Any], Tensor]

# Wrappers that bring inputs to the devices of their network.
PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def wrapping(model: nn.Module) -> list[nn.Module]:
    """`model`, what it wraps (torch.compile, DataParallel, DistributedDataParallel), what that wraps, and so on."""
    found: list[nn.Module] = []
    inner: Any = model
    while isinstance(inner, nn.Module):
        found.append(inner)
        inner = getattr(inner, "module" if isinstance(inner, PARALLEL) else "_orig_mod", None)
    return found


def unwrapped(model: nn.Module) -> nn.Module:
    """The network itself."""
    return wrapping(model)[-1]


def call(model: Callable[..., Any], inputs: Any) -> Any:
    """What `model` gives for the inputs of a batch: a mapping are its keyword arguments, a tuple or list its positional
    ones, and anything else is its only argument.

    Raises:
        UserError: the network has no arguments of some of these names.
    """
    if isinstance(inputs, Mapping):
        if isinstance(model, nn.Module):
            _refuse_unknown(unwrapped(model), inputs)
        return model(**inputs)
    if isinstance(inputs, (tuple, list)):
        return model(*inputs)
    return model(inputs)


def _refuse_unknown(network: nn.Module, names: Iterable[Any]) -> None:
    """UserError if `network` has no arguments of these names. (Left out in silence, misspelt ones would be lost.)"""
    if isinstance(network, torch.jit.ScriptModule):  # has no signature
        return
    taken = inspect.signature(network.forward).parameters
    unknown = [name for name in names if name not in taken]
    if unknown and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
        raise UserError(
            f"the forward of {type(network).__name__} takes no {', '.join(map(repr, unknown))}, which the batches "
            "hold: leave it out of them, or pass forward=lambda model, batch: ..., which returns the logits"
        )


def logits_of(output: Any) -> Tensor:
    """The logits in what a network gives: itself, its attribute or key ``logits``, or a tuple's first element.

    Raises:
        UserError: there are none.
    """
    found = output
    if isinstance(found, Mapping):
        found = found.get("logits")
    elif not isinstance(found, Tensor) and hasattr(found, "logits"):
        found = found.logits
    elif isinstance(found, (tuple, list)) and found:
        found = found[0]
    if isinstance(found, Tensor):
        return found
    kind = type(output).__name__ + (f" with {', '.join(map(str, output))}" if isinstance(output, Mapping) else "")
    raise UserError(
        f"the network's output is of type {kind}, in which there are no logits: pass "
        "forward=lambda model, batch: ..., which returns the logits [batch, classes]"
    )


def map_tensors(function: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """`tree` (tensors in mappings, tuples and lists) with every tensor replaced by `function` of it."""
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, Mapping):
        return {key: map_tensors(function, value) for key, value in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(map_tensors(function, value) for value in tree))
    if isinstance(tree, (tuple, list)):
        return type(tree)(map_tensors(function, value) for value in tree)
    return tree


def tensors_in(tree: Any) -> Iterator[Tensor]:
    """The tensors of a tree, in order."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, (Mapping, tuple, list)):
        for part in tree.values() if isinstance(tree, Mapping) else tree:
            yield from tensors_in(part)


def rows_of(inputs: Any) -> int:
    """How many examples a batch of inputs holds: the length of its first tensor; 0 if it has none."""
    return next((len(value) for value in tensors_in(inputs) if value.dim()), 0)


def take(inputs: Any, rows: slice | Tensor) -> Any:
    """Some rows of a batch of inputs; tensors that do not have a row for each example stay as they are."""
    count = rows_of(inputs)
    return map_tensors(lambda value: value[rows] if value.dim() and len(value) == count else value, inputs)


def count_of(inputs: Any) -> int:
    """How many examples these are the inputs of: a tree of tensors, or what has a length and gives the tensor of a
    slice."""
    return rows_of(inputs) or len(inputs)


def part_of(inputs: Any, rows: slice) -> Any:
    """Some rows of inputs as `count_of` takes them."""
    return take(inputs, rows) if rows_of(inputs) else inputs[rows]


def repeat(inputs: Any, times: int) -> Any:
    """A batch of inputs, `times` after one another; tensors without a row for each example stay as they are."""
    count = rows_of(inputs)

    def repeated(value: Tensor) -> Tensor:
        return value.repeat(times, *[1] * (value.dim() - 1)) if value.dim() and len(value) == count else value

    return map_tensors(repeated, inputs)


def to_device(inputs: Any, device: torch.device) -> Any:
    """A batch of inputs on `device`."""
    return map_tensors(lambda value: value.to(device, non_blocking=True), inputs)
