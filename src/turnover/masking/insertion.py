"""Turn-over dropout in any network: `insert` it, then choose who passes through with `subnetwork`.

Kobayashi et al. (2020, arXiv 2012.04207): training example i always trains the same random sub-network,
given by its mask ``m(i)``. The complement ``~m(i)`` never trained on i, so comparing both tells what i taught.

The network itself stays unmodified: masks are applied by hooks (`turnover.masking.layer`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from turnover.masking.layer import TurnOverDropout, _MaskInput, _MaskOutput, masked_layers, masking_hooks
from turnover.masking.masks import kept_units
from turnover.masking.norms import Model, refuse_batch_norm, replace_module
from turnover.masking.placement import head, head_name, places


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
            replace_module(model, name, module.__dict__["replaced"].to(module.expand.weight))
    return model


def _widen(model: nn.Module, width: int, seed: int) -> None:
    name = head_name(model)
    if not name:
        raise ValueError("the model is a single linear layer: wrap it in torch.nn.Sequential to widen its head")
    replace_module(model, name, WidenedHead(head(model), width, seed))
