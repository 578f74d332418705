"""Turn-over dropout in any network: `insert` it, then choose who passes through with `subnetwork`.

Kobayashi et al. (2020, arXiv 2012.04207): training example i always trains the same random sub-network,
given by its mask ``m(i)``. The complement ``~m(i)`` never trained on i, so comparing both tells what i taught.

The network itself stays unmodified: masks are applied by hooks (`turnover.masking.layer`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from turnover.masking.layer import TurnOverDropout, _MaskInput, _MaskOutput, masked_layers, masking_hooks
from turnover.masking.masks import kept_units
from turnover.masking.placement import BATCH_NORMS, last_linear, places, refuse_batch_norm

Model = TypeVar("Model", bound=nn.Module)


class WidenedHead(nn.Module):
    """Replaces the last linear layer: a wide hidden layer whose units are masked, then the classes.

    The cross-talk between N random masks of d units shrinks as d grows, so a wider masked layer sharpens
    every estimate; see docs/method.md.
    """

    def __init__(self, replaced: nn.Linear, width: int, seed: int = 0) -> None:
        super().__init__()
        # Kept outside of the registered submodules: neither trained nor saved, only given back by `remove`.
        self.__dict__["replaced"] = replaced
        self.activation = nn.ReLU()
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they were
            torch.manual_seed(seed)
            self.expand = nn.Linear(replaced.in_features, width).to(replaced.weight)
            self.classify = nn.Linear(width, replaced.out_features).to(replaced.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.activation(self.expand(x)))  # type: ignore[no-any-return]


def head(model: nn.Module) -> nn.Linear:
    """The last linear layer of `model`, in the order of `model.named_modules()`.

    Raises:
        ValueError: the model has no `torch.nn.Linear`.
    """
    return last_linear(model)[1]


def insert(
    model: Model,
    after: str | Sequence[str] = "head",
    keep: float = 0.5,
    seed: int = 0,
    width: int | None = None,
) -> Model:
    """Put turn-over dropout into `model`, in place, without changing its code or its state dict.

    Args:
        model: any classifier whose batch is dimension 0 throughout.
        after: ``"head"``: mask the input of the last linear layer. ``"all"``: mask after every hidden activation
            module (channels of a convolution, features of tokens). A list of module names, as
            `model.named_modules()` gives them: mask the output of each. A module that runs more than once in a
            forward pass is masked alike each time.
        keep: fraction of units an example trains, inside (0, 1).
        seed: seed of the masks, and of the weights of a widened head.
        width: replace the last linear layer by a `WidenedHead` with this many masked units. Only with
            ``after="head"``. This does change the state dict: the head gets other parameters.

    Returns:
        `model` itself. `remove` takes everything out again.

    Raises:
        ValueError: there is no such module, nothing to mask, turn-over dropout is there already, `keep` or `width` is
            out of range, BatchNorm (which mixes the examples of a batch) was found, or a module cannot be masked
            (batch not in dimension 0, not called as a module, output not a tensor).
    """
    kept_units(1 << 20, keep)
    if masked_layers(model):
        raise ValueError("the model has turn-over dropout already: call remove(model) first")
    refuse_batch_norm(model)
    found = places(model, after)
    if width is not None:
        if after != "head":
            raise ValueError(f'width={width} widens the head: it goes with after="head", not after={after!r}')
        kept_units(width, keep)
        _widen(model, width, seed)
        found = places(model, after)
    for number, place in enumerate(found):
        layer = TurnOverDropout(keep, seed, number, place.dim, place.units)
        if place.before:
            place.module.register_forward_pre_hook(_MaskInput(layer, place.name))
        else:
            place.module.register_forward_hook(_MaskOutput(layer, place.name))
    return model


def remove(model: Model) -> Model:
    """Take out what `insert` put into `model`: hooks, and the widened head. Returns `model`."""
    for table, hook in list(masking_hooks(model)):
        for key in [key for key, value in table.items() if value is hook]:
            del table[key]
    for name, module in list(model.named_modules()):
        if isinstance(module, WidenedHead):
            # It was out of reach of `model.to(...)`.
            _replace(model, name, module.__dict__["replaced"].to(module.expand.weight))
    return model


def replace_batch_norm(model: Model, groups: int = 32) -> Model:
    """Replace every BatchNorm of `model` by GroupNorm, in place: the cure that `insert` asks for.

    Affine weights carry over; running statistics are dropped, so a pretrained network needs further training.

    Args:
        model: any network.
        groups: groups of channels; lowered to the largest divisor of a layer's channels that is not above it.

    Returns:
        `model` (or its replacement, if the model itself is a BatchNorm).

    Raises:
        ValueError: a lazy BatchNorm does not know its channels yet.
    """
    if isinstance(model, BATCH_NORMS):
        return _group_norm(model, groups)  # type: ignore[return-value]
    new: dict[nn.Module, nn.GroupNorm] = {}  # a layer may stand in several places
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if isinstance(module, BATCH_NORMS):
            if module not in new:
                new[module] = _group_norm(module, groups)
            _replace(model, name, new[module])
    return model


def _group_norm(norm: Any, groups: int) -> nn.GroupNorm:
    channels = norm.num_features
    if not channels:
        raise ValueError("a lazy BatchNorm has no channels yet: run one batch through the model first")
    divisor = max(d for d in range(1, min(groups, channels) + 1) if channels % d == 0)
    new = nn.GroupNorm(divisor, channels, eps=norm.eps, affine=norm.affine)
    if norm.affine:
        new.weight, new.bias = norm.weight, norm.bias
    return new.train(norm.training)


def _widen(model: nn.Module, width: int, seed: int) -> None:
    name, linear = last_linear(model)
    if not name:
        raise ValueError("the model is a single linear layer: wrap it in torch.nn.Sequential to widen its head")
    _replace(model, name, WidenedHead(linear, width, seed))


def _replace(model: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, new)
