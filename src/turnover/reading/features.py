"""How examples lie in the network's own feature space: its directions, and how strong each is.

Features are what enters the last linear layer of the full network, in evaluation mode, less their mean over the
training examples. In them a few directions (the classes) hold nearly all of the variance, so plain distances only see
classes. Dividing every direction by its strength, ``(C + ridge * trace(C) * I)^(-1/2)``, shows the finer ones: the
metric in which ridge regression, and with it the influence function of a last layer, weighs examples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from turnover.batches.passes import (
    DEFAULT_MEMORY,
    device_of,
    evaluating,
    full_precision,
    moved,
)
from turnover.batches.tap import Features, Tap
from turnover.errors import UserError
from turnover.masking.calling import Forward, count_of, part_of

# Fixed, and not tuned to a data set: agreement with retraining is flat around it, see docs/method.md.
RIDGE = 3.5e-4
_BATCH = 256  # examples that go through the network at once
_BLOCK = 4096  # examples whose features are worked on at once
LARGEST = 4096  # numbers of a feature: their covariance is held, and decomposed


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


def features_of(
    model: nn.Module, x: Any, features: Features = None, rows: slice = slice(None), forward: Forward | None = None
) -> Tensor:
    """Features of the full network, in evaluation mode.

    Args:
        model: any classifier; without a `features` of its own it must have a last linear layer.
        x: inputs [n, ...], as the model takes them (see `count_of`); they go through it a few at a time.
        features, forward: see `Tap`. Further dimensions are flattened.
        rows: of these inputs only.

    Returns:
        float32 [n, d] on the device of the model.

    Raises:
        ValueError: the model has no such module, or it ran more or less than once in a forward pass.
    """
    tap, device, (first, last, _) = Tap(model, features, forward), device_of(model), rows.indices(count_of(x))
    found = []
    with evaluating(model):
        for start in range(first, last, _BATCH):
            part, _ = tap(moved(part_of(x, slice(start, min(start + _BATCH, last))), device))
            if part is None:
                raise UserError("the network has no linear layer whose input could be its features: name a module")
            found.append(part.float())
    return torch.cat(found)


class FeatureBlocks:
    """Features of all examples, as often as asked for: all at once, or some thousands at a time.

    Args:
        model, x, features, forward: as for `features_of`.
        memory: bytes. Features that fit are kept, others go through the network again each time.

    Raises:
        ValueError: as `features_of`; or features are wider than 4096.
    """

    def __init__(
        self,
        model: nn.Module,
        x: Any,
        features: Features = None,
        memory: int = DEFAULT_MEMORY,
        forward: Forward | None = None,
    ) -> None:
        self._of: Callable[[slice], Tensor] = lambda rows: features_of(model, x, features, rows, forward)
        self._count = count_of(x)
        width = self._of(slice(1)).shape[1]
        if width > LARGEST:
            raise ValueError(
                f"features of {width} numbers are too wide to compare (at most {LARGEST}): name a narrower layer in "
                "`features`"
            )
        fits = self._count * width * 4 <= memory
        self._kept = self._of(slice(None)) if fits else None

    def __iter__(self) -> Iterator[Tensor]:
        if self._kept is not None:
            return iter([self._kept])
        return (self._of(slice(start, start + _BLOCK)) for start in range(0, self._count, _BLOCK))


@full_precision()
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
