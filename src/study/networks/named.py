"""The small zoo of classifiers, and any classifier of torchvision by name.

Every network here is ready for turn-over dropout: batch in dimension 0, no BatchNorm, activations as modules.
"""

from __future__ import annotations

import difflib
from typing import Any

import torch
from torch import nn

from study.networks.zoo.small import ZOO, build_own
from turnover.masking.norms import replace_batch_norm


def build(name: str, shape: tuple[int, int, int], classes: int, *, seed: int = 0, **options: Any) -> nn.Module:
    """A new network with weights drawn from `seed`; the global random number generator is left as it was.

    Args:
        name: a name in `ZOO`, or a classification model of torchvision (BatchNorm replaced by GroupNorm); where both
            have one, ``torchvision.`` in front of it means theirs.
        shape: channels, height and width of an image.
        classes: number of classes.
        seed: seed of the initial weights.
        options: further arguments of the network.

    Raises:
        ValueError: unknown name or option, or an impossible size.
    """
    if name in ZOO:
        return build_own(name, shape, classes, seed=seed, **options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _torchvision(name.removeprefix("torchvision."), classes, options)


def _torchvision(name: str, classes: int, options: dict[str, Any]) -> nn.Module:
    import torchvision.models  # slow to import, and only needed here

    known = torchvision.models.list_models(torchvision.models)
    if name not in known:
        close = difflib.get_close_matches(name, [*ZOO, *known], n=3)
        hint = f" (did you mean {', '.join(close)}?)" if close else ""
        raise ValueError(
            f"model.name={name!r} is not known{hint}: use {', '.join(ZOO)}, or a classification model of torchvision"
        )
    try:
        model: nn.Module = torchvision.models.get_model(name, num_classes=classes, **options)
    except Exception as error:  # each constructor has errors of its own for what it cannot take
        given = ", ".join(f"{key}={value!r}" for key, value in options.items()) or "no options"
        raise ValueError(f"model.options: {name!r} cannot be built with {given}: {error}") from error
    return replace_batch_norm(model)
