"""Turn-over dropout in any network: `insert` it, then choose who passes through with `subnetwork`.

Kobayashi et al. (2020, arXiv 2012.04207): training example i always trains the same random sub-network,
given by its mask ``m(i)``. The complement ``~m(i)`` never trained on i, so comparing both tells what i taught.

The network itself stays unmodified: masks are applied by hooks (`turnover.masking.layer`).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from turnover.masking.layer import (
    TurnOverDropout,
    _MaskInput,
    _MaskOutput,
    masked_layers,
    masking_hooks,
    remove_hook,
)
from turnover.masking.masks import kept_units
from turnover.masking.norms import Model, refuse_batch_norm, replace_module
from turnover.masking.trial import FirstBatch

# What counts as a hidden activation for `after="all"`.
# fmt: off
ACTIVATIONS: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish,
    nn.Tanh, nn.Softplus,
)
# fmt: on


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


def insert(
    model: Model, after: str | Sequence[str] = "head", keep: float = 0.5, seed: int = 0, width: int | None = None
) -> Model:
    """Put turn-over dropout into `model`, in place, without changing its code or its state dict.

    >>> layers = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    >>> keys, model = list(layers.state_dict()), insert(layers, after="head")
    >>> model is layers, list(model.state_dict()) == keys
    (True, True)

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

    BatchNorm in evaluation mode, with statistics of its own, mixes nothing and may stay. It must be kept there: after
    ``model.train()`` call ``.eval()`` on it (`turnover.train` does so).

    Whether masks hold in this network shows with the first batch under `subnetwork`: logits that come past them are an
    error, and where another linear layer than the last one registered gives the logits, the masks of
    ``after="head"`` move there.

    Returns:
        `model` itself. `remove` takes everything out again.

    Raises:
        ValueError: there is no such module, nothing to mask, turn-over dropout is there already, `keep` or `width` is
            out of range, BatchNorm that mixes the examples of a batch was found, or a module cannot be masked
            (batch not in dimension 0, not called as a module, output not a tensor).
    """
    kept_units(1 << 20, keep)
    if masked_layers(model):
        raise ValueError("the model has turn-over dropout already: call remove(model) first")
    frozen = refuse_batch_norm(model)
    found = places(model, after)
    if width is not None:
        if after != "head":
            raise ValueError(f'width={width} widens the head: it goes with after="head", not after={after!r}')
        kept_units(width, keep)
        _widen(model, width, seed)
        found = places(model, after)
    for number, place in enumerate(found):
        layer = TurnOverDropout(keep, seed, number, place.dim, place.units)
        layer.frozen = frozen
        if place.before:
            place.module.register_forward_pre_hook(_MaskInput(layer, place.name, "head"), with_kwargs=True)
        else:
            place.module.register_forward_hook(_MaskOutput(layer, place.name, "all" if after == "all" else "names"))
    forget_compiled()
    return model


def remove(model: Model) -> Model:
    """Take out what `insert` put into `model`: hooks, and the widened head. Returns `model`.

    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    >>> before = repr(model)
    >>> repr(remove(insert(model, width=64))) == before
    True
    """
    for module, hook in list(masking_hooks(model)):
        remove_hook(module, hook)
    for name, module in list(model.named_modules()):
        for first in [hook for hook in module._forward_pre_hooks.values() if isinstance(hook, FirstBatch)]:
            remove_hook(module, first)
        if isinstance(module, WidenedHead):
            # It was out of reach of `model.to(...)`.
            replace_module(model, name, module.__dict__["replaced"].to(module.expand.weight))
    forget_compiled()
    return model


def keep_frozen(model: nn.Module) -> None:
    """After `model.train()`: BatchNorm that was frozen at `insert` back into evaluation mode."""
    for layer in masked_layers(model):
        for _, norm in layer.frozen:
            norm.eval()


def forget_compiled() -> None:
    """To be called after every change of hooks: code that torch.compile made before does not notice them.

    (The guards of compiled code leave hooks out, and nothing tells which compiled code, of which wrapper, holds
    this network.)
    """
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()


def _widen(model: nn.Module, width: int, seed: int) -> None:
    name = head_name(model)
    if not name:
        raise ValueError("the model is a single linear layer: wrap it in torch.nn.Sequential to widen its head")
    replace_module(model, name, WidenedHead(head(model), width, seed))


class Place(NamedTuple):
    """One place to mask: the input (`before`) or the output of a module, and which dimension holds the units."""

    name: str
    module: nn.Module
    before: bool
    dim: int | None
    units: int | None


def places(model: nn.Module, after: str | Sequence[str]) -> list[Place]:
    """The places that `after` names (see `turnover.insert`), in the order of `model.named_modules()`.

    Raises:
        ValueError: there is no such module, nothing to mask, or a module cannot be masked.
    """
    modules = dict(model.named_modules())
    if after == "head":
        linear = head(model)
        return [Place(head_name(model), linear, True, -1, linear.in_features)]
    if after == "all":
        found = [name for name, module in modules.items() if isinstance(module, ACTIVATIONS)]
        if not found:
            raise ValueError(
                'after="all" found no activation modules (the forward pass may call functions instead): '
                f"name the modules to mask after, out of {_shown(modules)}"
            )
    elif isinstance(after, str):
        raise ValueError(f'after={after!r}: use "head", "all" or a list of module names')
    else:
        unknown = [name for name in after if name not in modules or not name]
        if unknown:
            raise ValueError(f"after names no module of the model: {unknown[0]!r}; there are {_shown(modules)}")
        if not after:
            raise ValueError("after=[] masks nothing: name at least one module")
        found = [name for name in modules if name in set(after)]
    for name in found:
        _refuse_unreachable(modules, name)
    return [Place(name, modules[name], False, *_units(modules, name)) for name in found]


def head(model: nn.Module) -> nn.Linear:
    """The last linear layer of `model`, in the order of `model.named_modules()`.

    Raises:
        ValueError: the model has no `torch.nn.Linear`.
    """
    return cast(nn.Linear, model.get_submodule(head_name(model)))


def head_name(model: nn.Module) -> str:
    """Name of the `head` of `model`; errors are the same."""
    found = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not found:
        raise ValueError("the model has no torch.nn.Linear layer, so it has no head to mask: name modules in `after`")
    last: str = found[-1]
    return last


def _refuse_unreachable(modules: Mapping[str, nn.Module], name: str) -> None:
    """Raise where a mask would do the wrong thing without a word: batch not first, or the module never called."""
    parts = name.split(".")
    for depth in range(len(parts) + 1):
        above = ".".join(parts[:depth])
        module = modules.get(above)
        # Transformer layers keep the setting in their attention.
        holder = getattr(module, "self_attn", module)
        if isinstance(holder, (nn.RNNBase, nn.MultiheadAttention)) and not holder.batch_first:
            raise ValueError(
                f"module {name!r} belongs to {above or 'the model'!r}, which holds the batch in dimension 1: "
                "build it with batch_first=True"
            )
        # Both use the weights of their linear layers without calling these, so that a hook never runs.
        attention = isinstance(module, nn.MultiheadAttention) or type(module).__name__ == "ShiftedWindowAttention"
        if attention and isinstance(modules[name], nn.Linear):
            raise ValueError(f"module {name!r} is never called itself: name {above!r} or a module around it")
    if isinstance(modules[name], (nn.RNNBase, nn.MultiheadAttention)):
        raise ValueError(
            f"module {name!r} ({type(modules[name]).__name__}) gives a tuple, not one tensor: name a module after it"
        )


def _units(modules: Mapping[str, nn.Module], name: str) -> tuple[int | None, int | None]:
    """Dimension and number of the units in the output of module `name`: those of the nearest layer with weights.

    Nearest is the last one inside of the module, else the last one before it.

    Channels-last networks (ConvNeXt, Swin) hold features in the last of four dimensions, inside blocks of
    linear layers. Where a permutation follows the layer, `TurnOverDropout.unit_dim` finds the units by their number.
    """
    found: tuple[int | None, int | None] = (None, None)
    reached = False
    for other, module in modules.items():
        within = other == name or other.startswith(name + ".")
        if reached and not within:
            break
        reached = reached or within
        if isinstance(module, nn.Linear):
            found = -1, module.out_features
        elif type(module) is nn.LayerNorm:
            found = -1, module.normalized_shape[-1]
        elif isinstance(module, nn.LayerNorm):  # subclasses (torchvision's LayerNorm2d) keep the channels first
            found = 1, module.normalized_shape[-1]
        elif isinstance(module, nn.modules.conv._ConvNd):
            found = 1, module.out_channels
        elif isinstance(module, nn.GroupNorm):
            found = 1, module.num_channels
        elif isinstance(module, nn.RNNBase):
            found = -1, module.hidden_size * (2 if module.bidirectional else 1)
    return found


def _shown(modules: Mapping[str, nn.Module]) -> str:
    names = [name for name in modules if name]
    return ", ".join(names[:12]) + (f" ... ({len(names)} in all)" if len(names) > 12 else "")
