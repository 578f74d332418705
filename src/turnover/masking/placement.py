"""Where turn-over dropout goes in a network, and where it cannot go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

from torch import nn

# What counts as a hidden activation for `after="all"`.
ACTIVATIONS: tuple[type[nn.Module], ...] = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Hardswish,
    nn.Tanh,
    nn.Softplus,
)


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
