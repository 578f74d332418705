"""BatchNorm, which mixes the examples of a batch: allowed where it is frozen, else refused; GroupNorm in its place."""

from __future__ import annotations

from typing import Any, TypeVar

from torch import nn

from turnover.errors import UserError

Model = TypeVar("Model", bound=nn.Module)

_BatchNorm = nn.modules.batchnorm._BatchNorm
# What is known to be a normalization and nothing else. timm's BatchNormAct2d, for one, also applies an activation.
_PLAIN = (
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.LazyBatchNorm1d, nn.LazyBatchNorm2d,
    nn.LazyBatchNorm3d,
)  # fmt: skip
_FEWEST = 4  # features of a group: one alone, without places, always gives its bias, and two tell no more than signs


def refuse_batch_norm(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The BatchNorm of `model`, with names, if all of it is frozen: in evaluation mode, with statistics of its own.

    Raises:
        UserError: some of it mixes the examples of a batch; the message names the layers and the cure.
    """
    found: list[tuple[str, nn.Module]] = [(n, m) for n, m in model.named_modules() if isinstance(m, _BatchNorm)]
    mixing = [(name, m) for name, m in found if m.training or m.running_mean is None]
    if not mixing:
        return found
    why = "BatchNorm mixes the examples of a batch, so every example would leak into the sub-networks of the others"
    freeze = "freeze it with .eval() on these modules, which keeps the statistics of a pretrained network"
    other = [(name, m) for name, m in mixing if type(m) not in _PLAIN]
    if other:
        raise UserError(
            f"{why}; found: {_listed(other)}, of type {type(other[0][1]).__name__}. Cure: {freeze}, or build the "
            "network with another normalization (this class may do more than normalize, so replace_batch_norm leaves "
            "it alone)"
        )
    raise UserError(
        f"{why}; found: {_listed(mixing)}. Cure: insert(replace_batch_norm(model), ...), which drops running "
        f"statistics and needs (further) training; or {freeze}"
    )


def refuse_thawed(frozen: list[tuple[str, nn.Module]]) -> None:
    """Raise UserError if BatchNorm that was `frozen` when masks were inserted is in training mode."""
    thawed = [(name, norm) for name, norm in frozen if norm.training]
    if thawed:
        raise UserError(
            f"BatchNorm that was in evaluation mode at insert(...) is in training mode now: {_listed(thawed)}; there "
            "it mixes the examples of a batch and changes its statistics: after every model.train() call .eval() on "
            "these modules"
        )


def replace_batch_norm(model: Model, groups: int = 32) -> Model:
    """Replace every BatchNorm of `model` by GroupNorm, in place: the cure that `insert` asks for.

    >>> replace_batch_norm(torch.nn.Sequential(torch.nn.Conv2d(3, 64, 3), torch.nn.BatchNorm2d(64)))[1].num_groups
    16

    Affine weights carry over; running statistics are dropped, so a pretrained network needs further training (to keep
    them, freeze it instead: `.eval()` on its BatchNorm before `insert`, and after every `model.train()`).

    Args:
        model: any network.
        groups: groups of channels; lowered to the largest divisor of a layer's channels that is not above it and leaves
            4 channels or more to a group. `BatchNorm1d` becomes a single group.

    Returns:
        `model` (or its replacement, if the model itself is a BatchNorm).

    Raises:
        UserError: a BatchNorm of a class of its own, which may do more than normalize; one of fewer than 3 channels,
            which cannot be normalized within an example; or a lazy one that does not know its channels yet.
    """
    # All are made first, so that a refusal changes nothing. A layer may stand in several places.
    new = {m: _group_norm(name, m, groups) for name, m in model.named_modules() if isinstance(m, _BatchNorm)}
    if model in new:
        return new[model]  # type: ignore[return-value]
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if module in new:
            replace_module(model, name, new[module])
    return model


def replace_module(model: nn.Module, name: str, new: nn.Module) -> None:
    """Put `new` where `model` has the module called `name`."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, new)


def _group_norm(name: str, norm: Any, groups: int) -> nn.GroupNorm:
    channels, what = norm.num_features, f"{name or '(the model itself)'} ({type(norm).__name__})"
    if type(norm) not in _PLAIN:
        raise UserError(
            f"replace_batch_norm does not know what else {what} does beside normalizing: freeze it with .eval(), or "
            "build the network with another normalization"
        )
    if not channels:
        raise UserError(f"{what} is lazy and has no channels yet: run one batch through the model first")
    if channels < 3:
        raise UserError(
            f"{what} has {channels} channels, too few to be normalized within one example without losing what they "
            "say: freeze it with .eval(), or remove it"
        )
    fewest = channels if isinstance(norm, nn.BatchNorm1d) else min(_FEWEST, channels)
    divisor = max(d for d in range(1, max(groups, 1) + 1) if channels % d == 0 and channels // d >= fewest)
    new = nn.GroupNorm(divisor, channels, eps=norm.eps, affine=norm.affine)
    if norm.affine:
        new.weight, new.bias = norm.weight, norm.bias
    return new.train(norm.training)


def _listed(found: list[tuple[str, nn.Module]]) -> str:
    names = [name or "(the model itself)" for name, _ in found]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
