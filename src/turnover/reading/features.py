"""How examples lie in the network's own feature space: its directions, and how strong each is.

Features are what enters the last linear layer of the full network, in evaluation mode, less their mean over the
training examples. In them a few directions (the classes) hold nearly all of the variance, so plain distances only see
classes. Dividing every direction by its strength, ``(C + ridge * trace(C) * I)^(-1/2)``, shows the finer ones: the
metric in which ridge regression, and with it the influence function of a last layer, weighs examples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from turnover.attribution.scorer import device_of, evaluating
from turnover.attribution.store import Inputs
from turnover.masking.insertion import head

Features = str | Callable[[Tensor], Tensor] | None

_BATCH = 256  # examples that go through the network at once
_LARGEST = 4096  # numbers of a feature: their covariance is held, and decomposed


class Spectrum(NamedTuple):
    """Principal directions of the training features, the strongest first."""

    mean: Tensor  # float32 [d]
    values: Tensor  # float32 [d], sums of squares along the directions, not negative
    vectors: Tensor  # float32 [d, d], a direction a column

    def whitened(self, features: Tensor, ridge: float, directions: int | None = None) -> Tensor:
        """Features [n, d] along the strongest `directions`, each divided by its strength: [n, directions]."""
        strength = (self.values + ridge * self.values.sum()).clamp(min=torch.finfo(torch.float32).tiny)
        whitening = (self.vectors / strength.sqrt())[:, :directions]
        return torch.cat([(part - self.mean) @ whitening for part in torch.split(features, _LARGEST)])


def features_of(model: nn.Module, x: Inputs, features: Features = None) -> Tensor:
    """Features of the full network, in evaluation mode.

    Args:
        model: any classifier; without a `features` of its own it must have a last linear layer.
        x: inputs [n, ...], as the model takes them; they go through it a few at a time.
        features: None: what enters the last linear layer. A module's name: what comes out of it. Or a function from
            a batch of inputs to features [batch, ...]. Further dimensions are flattened.

    Returns:
        float32 [n, d] on the device of the model.

    Raises:
        ValueError: the model has no such module, or it ran more or less than once in a forward pass.
    """
    model = getattr(model, "_orig_mod", model)  # compiled code would not notice a new hook
    if callable(features):
        return _collect(model, x, features)
    if features is not None and features not in dict(model.named_modules()):
        known = ", ".join(name for name, _ in model.named_modules() if name)
        raise ValueError(f"features={features!r}: the model has no such module; it has {known}")
    caught: list[Tensor] = []

    def of(batch: Tensor) -> Tensor:
        caught.clear()
        model(batch)
        if len(caught) != 1:
            raise ValueError(
                f"the layer that gives the features ran {len(caught)} times in a forward pass: name another one in "
                "`features`"
            )
        return caught[0]

    if features is None:
        hook = head(model).register_forward_pre_hook(lambda module, args: caught.append(args[0]))
    else:
        hook = model.get_submodule(features).register_forward_hook(lambda module, args, output: caught.append(output))
    try:
        return _collect(model, x, of)
    finally:
        hook.remove()


def _collect(model: nn.Module, x: Inputs, of: Callable[[Tensor], Tensor]) -> Tensor:
    device = device_of(model)
    with evaluating(model):
        parts = [of(x[start : start + _BATCH].to(device)) for start in range(0, len(x), _BATCH)]
    return torch.cat([part.flatten(1).float() for part in parts])


def spectrum(features: Tensor) -> Spectrum:
    """Principal directions of features [n, d].

    Raises:
        ValueError: features are wider than 4096, or not finite.
    """
    width = features.shape[1]
    if width > _LARGEST:
        raise ValueError(
            f"features of {width} numbers are too wide to compare (at most {_LARGEST}): name a narrower layer in "
            "`features`"
        )
    mean = features.mean(0)
    covariance = torch.zeros(width, width, dtype=torch.float64)
    for part in torch.split(features, _LARGEST):
        centred = part - mean
        covariance += (centred.T @ centred).cpu()
    if not bool(torch.isfinite(covariance).all()):
        raise ValueError("the features hold NaN or infinite numbers: did the training diverge?")
    values, vectors = torch.linalg.eigh(covariance)
    strongest = values.flip(0).clamp(min=0.0).float(), vectors.flip(1).float().contiguous()
    return Spectrum(mean, *(part.to(mean.device) for part in strongest))
