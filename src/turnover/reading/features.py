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

from turnover.errors import UserError
from turnover.masking.calling import Forward, call, count_of, logits_of, part_of, rows_of, take
from turnover.reading.layout import divisible
from turnover.reading.passes import (
    DEFAULT_MEMORY,
    device_of,
    evaluating,
    full_precision,
    moved,
    original,
    run_and_catch,
)

Features = str | Callable[[Any], Tensor] | None

# Fixed, and not tuned to a data set: agreement with retraining is flat around it, see docs/method.md.
RIDGE = 3.5e-4
_BATCH = 256  # examples that go through the network at once
_TRIED = 16  # examples that the head is looked for with
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


class Tap:
    """Runs a network and catches its features on the way.

    Args:
        model: any classifier.
        features: None: what enters the layer that gives the logits, found on the first batch (where none does: what
            enters the last linear layer). A module's name: what comes out of it. A function from the inputs of a batch
            to features [batch, ...].
        forward: from the network and a batch to the logits, where `turnover.masking.calling` does not do.

    Raises:
        ValueError: the model has no such module.
    """

    def __init__(self, model: nn.Module, features: Features = None, forward: Forward | None = None) -> None:
        self.model = original(model)
        self.function = features if callable(features) else None
        self.forward: Forward = forward or _call_for_logits
        self.head: nn.Linear | None = None  # its output are the logits
        self._module: nn.Module | None = None
        self._place, self._settled, self._width = 1, False, 0
        if isinstance(features, str):
            if features not in dict(self.model.named_modules()):
                known = ", ".join(name for name, _ in self.model.named_modules() if name)
                raise ValueError(f"features={features!r}: the model has no such module; it has {known}")
            self._module = self.model.get_submodule(features)

    def __call__(self, inputs: Any) -> tuple[Tensor | None, Tensor]:
        """Features [batch, width] (None where there are none to catch), as the network computes them, and its output.

        Raises:
            ValueError: the layer of the features ran more or less than once.
        """
        if not self._settled:
            self._settle(inputs)
        if self._module is None:
            logits, _ = run_and_catch(self.model, [], self.forward, inputs)
        else:
            logits, caught = run_and_catch(self.model, [self._module], self.forward, inputs)
            if len(caught) != 1:
                raise ValueError(
                    f"the layer that gives the features ran {len(caught)} times in a forward pass: name another one "
                    "in `features`"
                )
        if self.function is not None:
            return self.function(inputs).flatten(1), logits
        if self._module is None:
            return None, logits
        _, before, after = caught[0]
        if self._place == 1:
            return after.flatten(1), logits
        return _of_rows(before, after, logits), logits

    def width(self, inputs: Any) -> int:
        """How many logits the network gives for an example, found on a few rows of these inputs."""
        if not self._settled:
            self._settle(inputs)
        return self._width

    def _settle(self, inputs: Any) -> None:
        """Find the head, and with it the features, on a few rows."""
        self._settled = True
        few = take(inputs, slice(_TRIED)) if divisible(inputs, rows_of(inputs)) else inputs
        linears = [module for module in self.model.modules() if isinstance(module, nn.Linear)]
        logits, caught = run_and_catch(self.model, linears, self.forward, few)
        self._width = logits.shape[-1] if logits.dim() > 1 else 1
        ran = [module for module, _, _ in caught]
        once = [(module, *seen) for module, *seen in caught if ran.count(module) == 1]
        self.head = next((module for module, _, after in reversed(once) if _gives(after, logits)), None)
        if self._module is not None or self.function is not None:
            return
        self._place = 0
        if self.head is not None:
            self._module = self.head
            return
        flat = [m for m, before, _ in once if isinstance(before, Tensor) and not before.is_nested and before.dim() == 2]
        self._module = next((module for module in reversed(linears) if module in flat), None)


def _call_for_logits(model: nn.Module, inputs: Any) -> Tensor:
    return logits_of(call(model, inputs))


def _gives(after: Any, logits: Tensor) -> bool:
    """Whether a layer's output are the logits: all of it, or that of one token a row."""
    if not isinstance(after, Tensor) or after.is_meta or after.is_nested:
        return after is logits
    if after is logits:
        return True
    if after.numel() == logits.numel() and len(after) == len(logits):
        return torch.equal(after.reshape(logits.shape), logits)
    if after.dim() != 3 or logits.dim() != 2 or after.shape[::2] != logits.shape:
        return False
    return bool((after == logits.unsqueeze(1)).all(2).any(1).all())


def _of_rows(before: Tensor, after: Tensor, logits: Tensor) -> Tensor:
    """What enters the head, [batch, width]: of tokens [batch, token, width], the one whose logits were taken."""
    if before.dim() != 3 or logits.dim() != 2 or after.shape[::2] != logits.shape:
        return before.flatten(1)
    token = (after == logits.unsqueeze(1)).all(2).to(torch.uint8).argmax(1)
    return before[torch.arange(len(before), device=before.device), token]


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
