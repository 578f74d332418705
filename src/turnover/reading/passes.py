"""How data goes through anybody's network: its device, its mode, and what its layers see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

DEFAULT_MEMORY = 1 << 30  # bytes of scratch, unless the caller says otherwise


def device_of(model: nn.Module) -> torch.device:
    """The device of the model's first parameter."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def original(model: nn.Module) -> nn.Module:
    """The network that `torch.compile` wrapped; any other one itself."""
    while isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
        model = inner
    return model


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within: evaluation mode, and no gradients. Afterwards every module is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def forward_and_catch(model: nn.Module, module: nn.Module, x: Tensor) -> tuple[Any, list[tuple[Any, Any]]]:
    """One forward pass, uncompiled: compiled code would not notice a new hook.

    Returns:
        The output of `model`; first input and output of `module`, of each time that it ran.
    """
    caught: list[tuple[Any, Any]] = []
    handle = module.register_forward_hook(lambda module, args, output: caught.append((args[0], output)))
    model = original(model)
    try:  # `model.compile()` compiles in place, the network as it was is then behind `_call_impl`
        run = model if getattr(model, "_compiled_call_impl", None) is None else model._call_impl
        return run(x), caught  # type: ignore[no-untyped-call]
    finally:
        handle.remove()
