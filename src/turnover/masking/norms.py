"""BatchNorm, which mixes the examples of a batch: refused, and replaced by GroupNorm."""

from __future__ import annotations

from typing import Any, TypeVar

from torch import nn

Model = TypeVar("Model", bound=nn.Module)

BATCH_NORMS = (nn.modules.batchnorm._BatchNorm,)


def refuse_batch_norm(model: nn.Module) -> None:
    """Raise ValueError, naming the layers and the cure, if `model` has BatchNorm."""
    names = [name or "(the model itself)" for name, m in model.named_modules() if isinstance(m, BATCH_NORMS)]
    if names:
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise ValueError(
            "BatchNorm mixes the examples of a batch, so every example would leak into the sub-networks of the others; "
            f"found: {shown}. Cure: insert(replace_batch_norm(model), ...)"
        )


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
            replace_module(model, name, new[module])
    return model


def replace_module(model: nn.Module, name: str, new: nn.Module) -> None:
    """Put `new` where `model` has the module called `name`."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, new)


def _group_norm(norm: Any, groups: int) -> nn.GroupNorm:
    channels = norm.num_features
    if not channels:
        raise ValueError("a lazy BatchNorm has no channels yet: run one batch through the model first")
    divisor = max(d for d in range(1, min(groups, channels) + 1) if channels % d == 0)
    new = nn.GroupNorm(divisor, channels, eps=norm.eps, affine=norm.affine)
    if norm.affine:
        new.weight, new.bias = norm.weight, norm.bias
    return new.train(norm.training)
