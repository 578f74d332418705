"""How examples lie in the network's own feature space: its directions, and how strong each is.

Features are what enters the last linear layer of the full network, in evaluation mode, less their mean over the
training examples. In them a few directions (the classes) hold nearly all of the variance, so plain distances only see
classes. Dividing every direction by its strength, ``(C + ridge * trace(C) * I)^(-1/2)``, shows the finer ones: the
metric in which ridge regression, and with it the influence function of a last layer, weighs examples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from turnover.masking.insertion import head
from turnover.reading.checks import Inputs
from turnover.reading.passes import DEFAULT_MEMORY, device_of, evaluating, forward_and_catch, original

Features = str | Callable[[Tensor], Tensor] | None

# Fixed, and not tuned to a data set: agreement with retraining is flat around it, see docs/method.md.
RIDGE = 3.5e-4
_BATCH = 256  # examples that go through the network at once
_BLOCK = 4096  # examples whose features are worked on at once
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
        return torch.cat([(part - self.mean) @ whitening for part in torch.split(features, _BLOCK)])


def features_of(model: nn.Module, x: Inputs, features: Features = None, rows: slice = slice(None)) -> Tensor:
    """Features of the full network, in evaluation mode.

    Args:
        model: any classifier; without a `features` of its own it must have a last linear layer.
        x: inputs [n, ...], as the model takes them; they go through it a few at a time.
        features: None: what enters the last linear layer. A module's name: what comes out of it. Or a function from
            a batch of inputs to features [batch, ...]. Further dimensions are flattened.
        rows: of these inputs only.

    Returns:
        float32 [n, d] on the device of the model.

    Raises:
        ValueError: the model has no such module, or it ran more or less than once in a forward pass.
    """
    model = original(model)
    if callable(features):
        of = features
    else:
        if features is not None and features not in dict(model.named_modules()):
            known = ", ".join(name for name, _ in model.named_modules() if name)
            raise ValueError(f"features={features!r}: the model has no such module; it has {known}")
        layer, place = (head(model), 0) if features is None else (model.get_submodule(features), 1)

        def of(batch: Tensor) -> Tensor:
            _, caught = forward_and_catch(model, layer, batch)
            if len(caught) != 1:
                raise ValueError(
                    f"the layer that gives the features ran {len(caught)} times in a forward pass: name another one "
                    "in `features`"
                )
            found: Tensor = caught[0][place]
            return found

    device, (first, last, _) = device_of(model), rows.indices(len(x))
    with evaluating(model):
        parts = [of(x[start : min(start + _BATCH, last)].to(device)) for start in range(first, last, _BATCH)]
    return torch.cat([part.flatten(1).float() for part in parts])


class FeatureBlocks:
    """Features of all examples, as often as asked for: all at once, or some thousands at a time.

    Args:
        model, x, features: as for `features_of`.
        memory: bytes. Features that fit are kept, others go through the network again each time.

    Raises:
        ValueError: as `features_of`; or features are wider than 4096.
    """

    def __init__(self, model: nn.Module, x: Inputs, features: Features = None, memory: int = DEFAULT_MEMORY) -> None:
        self._arguments = model, x, features
        width = features_of(*self._arguments, slice(1)).shape[1]
        if width > _LARGEST:
            raise ValueError(
                f"features of {width} numbers are too wide to compare (at most {_LARGEST}): name a narrower layer in "
                "`features`"
            )
        fits = len(x) * width * 4 <= memory
        self._kept = features_of(*self._arguments) if fits else None

    def __iter__(self) -> Iterator[Tensor]:
        if self._kept is not None:
            return iter([self._kept])
        starts = range(0, len(self._arguments[1]), _BLOCK)
        return (features_of(*self._arguments, slice(start, start + _BLOCK)) for start in starts)


def spectrum(blocks: Iterable[Tensor]) -> Spectrum:
    """Principal directions of features, blocks of [some, d] that can be gone through twice.

    Raises:
        ValueError: features are not finite.
    """
    sums, counts = zip(*((block.sum(0), len(block)) for block in blocks), strict=True)
    mean = torch.stack(sums).sum(0) / sum(counts)
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for part in (part for block in blocks for part in torch.split(block, _BLOCK)):
        centred = part - mean
        covariance += (centred.T @ centred).cpu()
    if not bool(torch.isfinite(covariance).all()):
        raise ValueError("the features hold NaN or infinite numbers: did the training diverge?")
    values, vectors = torch.linalg.eigh(covariance)
    strongest = values.flip(0).clamp(min=0.0).float(), vectors.flip(1).float().contiguous()
    return Spectrum(mean, *(part.to(mean.device) for part in strongest))


def head_features(
    model: nn.Module, x: Inputs, lay_out: Callable[[Tensor], Tensor] = lambda batch: batch
) -> tuple[Tensor, Tensor]:
    """What enters the last linear layer and what the network gives, in evaluation mode.

    Args:
        model: a classifier whose output is that of its last linear layer.
        x: inputs [n, ...], as the model takes them; they go through it a few at a time.
        lay_out: applied to every batch of inputs, for a memory layout that the network likes.

    Returns:
        Features [n, units] and logits [n, classes], float32, on the device of the model.

    Raises:
        ValueError: the output is another one.
    """
    found, device, linear = [], device_of(model), head(model)
    with evaluating(model):
        for start in range(0, len(x), _BATCH):
            features, logits = features_and_logits(model, linear, lay_out(x[start : start + _BATCH].to(device)))
            if features is None:
                raise ValueError("the network's output is not that of its last linear layer")
            found.append((features.float(), logits.float()))
    features, logits = (torch.cat(parts) for parts in zip(*found, strict=True))
    return features, logits


def features_and_logits(model: nn.Module, linear: nn.Linear, x: Tensor) -> tuple[Tensor | None, Tensor]:
    """One full forward pass that also catches what goes into `linear`.

    Returns:
        Features [batch, units] as they enter `linear`, or None where `linear` does not give the network's output (so
        that nothing can be derived from its input), and the logits [batch, classes].
    """
    logits, caught = forward_and_catch(model, linear, x)
    if len(caught) == 1 and caught[0][1] is logits and caught[0][0].dim() == 2:
        return caught[0][0], logits
    return None, logits
