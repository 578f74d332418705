"""Forward passes that leave no trace in a network."""

from __future__ import annotations

import copy
import random
import sys
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from turnover.errors import UserError

_SMALL = 1e-3  # parameters of a way that is as good as closed, like LayerScale at its start
_CONTAINERS = (list, dict, set, deque)
_TORCHS = frozenset(vars(nn.Module())) - {"training"}  # tables of parameters, modules and hooks
_OPENING = 0.1  # size of the numbers in their place


@contextmanager
def undisturbed(
    network: nn.Module, *, training: bool = False, frozen: Sequence[tuple[str, nn.Module]] = ()
) -> Iterator[None]:
    """Within: forward passes through `network`, uncompiled and without gradients, that leave no trace in it.

    Parameters that are zero, or nearly, hold random numbers within, because a way that they close opens in training:
    LoRA, LayerScale, the last layer of a residual branch, a head; frozen ones with the step that thaws them.

    Args:
        network: not a wrapper around one.
        training: in training mode (as it is, if it is there already), else in evaluation mode. Dropout is off in both:
            what it drops of a row may hang on how much there is of the others (packed sequences).
        frozen: modules that stay in evaluation mode.
    """
    parameters = _opened(network)
    tables = [(table, dict(table)) for module in network.modules() for table in (module.__dict__, module._buffers)]
    # What may be changed in place: buffers, and tensors and containers that are plain attributes.
    tensors, containers = _held([value for table, _ in tables for key, value in table.items() if key not in _TORCHS])
    values = [(value, value.clone()) for value in tensors if not value.requires_grad]
    contents = [(container, copy.copy(container)) for container in containers]
    cache = torch.is_autocast_cache_enabled()
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(uncompiled())
        # Casts made here have no gradients, and must not be found by the forward pass that follows.
        torch.set_autocast_cache_enabled(False)
        try:
            for module, name, _, opened in parameters:
                module._parameters[name] = opened
            if not training:
                network.eval()
            elif not network.training:
                network.train()
                for _, module in frozen:
                    module.eval()
            for module in network.modules():
                if isinstance(module, (_DropoutNd, nn.RReLU)):
                    module.eval()
                elif isinstance(module, nn.RNNBase):
                    module.dropout = 0.0
            yield
        finally:
            torch.set_autocast_cache_enabled(cache)
            for module, name, parameter, _ in parameters:
                module._parameters[name] = parameter
            for table, before in tables:
                for name in table.keys() - before.keys():
                    del table[name]
                for name, attribute in before.items():
                    if table.get(name) is not attribute:
                        table[name] = attribute
            for container, content in contents:
                _refill(container, content)
            for tensor, value in values:
                if not torch.equal(tensor, value):
                    tensor.copy_(value)


@contextmanager
def uncompiled() -> Iterator[None]:
    """Within: what torch.compile has made of a network, or of parts of it, runs as it was written.

    Raises:
        UserError: compiled code is running already.
    """
    with ExitStack() as stack:
        if "torch._dynamo" in sys.modules:
            try:
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            except RuntimeError as error:
                raise UserError(
                    "`with subnetwork(...)` stands inside of a function that torch.compile compiles: compile the "
                    "network itself, and enter `subnetwork` outside of compiled code"
                ) from error
        yield


@contextmanager
def unnoticed(network: nn.Module) -> Iterator[None]:
    """Within: one pass, without warnings; all generators of random numbers are afterwards where they were."""
    devices = {parameter.device for parameter in network.parameters() if parameter.device.type == "cuda"}
    here, numpys = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=list(devices)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            random.setstate(here)
            np.random.set_state(numpys)


def _held(values: Iterable[Any]) -> tuple[list[Tensor], list[Any]]:
    """The tensors and the containers among `values`, and in these."""
    found: dict[int, Any] = {}
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        if id(value) not in found and isinstance(value, (Tensor, tuple, *_CONTAINERS)):
            found[id(value)] = value
            if not isinstance(value, Tensor):
                waiting += value.values() if isinstance(value, dict) else value
    each = list(found.values())
    return [v for v in each if isinstance(v, Tensor)], [v for v in each if isinstance(v, _CONTAINERS)]


def _refill(container: Any, content: Any) -> None:
    """Put into a container what its copy holds, if that is something else."""
    if isinstance(container, dict):
        before, now = ([*map(id, each), *map(id, each.values())] for each in (content, container))
    else:
        before, now = ([*map(id, each)] for each in (content, container))
    if before != now:
        container.clear()
        container.extend(content) if isinstance(container, (list, deque)) else container.update(content)


def sharded(network: nn.Module) -> bool:
    """Whether parameters lie in pieces in several processes, so that a forward pass waits for the others."""
    return any(type(parameter).__name__ == "DTensor" for parameter in network.parameters())


def _opened(network: nn.Module) -> list[tuple[nn.Module, str, nn.Parameter, nn.Parameter]]:
    """Module, name, parameter and replacement, of all parameters that are zero so far, or nearly."""
    numbers = torch.Generator().manual_seed(0)
    new: dict[nn.Parameter, nn.Parameter] = {}
    found = []
    for module in network.modules():
        for name, parameter in module._parameters.items():
            if type(parameter) is not nn.Parameter or not parameter.is_floating_point():
                continue
            if parameter not in new and bool((parameter.detach().abs() < _SMALL).all()):
                noise = torch.randn(parameter.shape, generator=numbers) * _OPENING
                new[parameter] = nn.Parameter(noise.to(parameter))
            if parameter in new:
                found.append((module, name, parameter, new[parameter]))
    return found
