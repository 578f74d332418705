"""How data goes through anybody's network: its device, its mode, and what its layers see."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from turnover.masking.calling import map_tensors

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


@contextmanager
def full_precision() -> Iterator[None]:
    """Within: no autocast. It is for networks; what is computed from their outputs takes the precision they have."""
    with torch.autocast("cpu", enabled=False):
        if not torch.cuda.is_available():
            yield
            return
        with torch.autocast("cuda", enabled=False):
            yield


def run_and_catch(
    model: nn.Module, modules: Sequence[nn.Module], forward: Callable[[nn.Module, Any], Any], inputs: Any
) -> tuple[Any, list[tuple[nn.Module, Any, Any]]]:
    """One forward pass, uncompiled: compiled code would not notice a new hook.

    Args:
        model: as it was before it was compiled (see `original`).
        modules: whose input and output are wanted.
        forward, inputs: called with the network and these.

    Returns:
        What `forward` gives; module, first input and output, of each time that one of `modules` ran.
    """
    caught: list[tuple[nn.Module, Any, Any]] = []

    def catch(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        caught.append((module, args[0] if args else next(iter(kwargs.values()), None), output))

    handles = [module.register_forward_hook(catch, with_kwargs=True) for module in modules]
    compiled = [module for module in model.modules() if getattr(module, "_compiled_call_impl", None) is not None]
    before = [module._compiled_call_impl for module in compiled]
    try:  # `model.compile()` compiles in place
        for module in compiled:
            module._compiled_call_impl = None
        return forward(model, inputs), caught
    finally:
        for module, implementation in zip(compiled, before, strict=True):
            module._compiled_call_impl = implementation
        for handle in handles:
            handle.remove()


def moved(inputs: Any, device: torch.device) -> Any:
    """A batch of inputs on `device`, laid out as its convolutions like it best."""
    return map_tensors(lambda value: _channels_last(value.to(device, non_blocking=True)), inputs)


def _channels_last(x: Tensor) -> Tensor:
    """The same images, laid out as CPU convolutions and poolings like them best: they take half the time.

    Strides are set outright because with a single channel PyTorch takes any layout for the default one.
    """
    if x.dim() != 4 or x.device.type != "cpu":
        return x
    _, channels, height, width = x.shape
    x = x.permute(0, 2, 3, 1).contiguous()
    return x.as_strided((len(x), channels, height, width), (channels * height * width, 1, channels * width, channels))
