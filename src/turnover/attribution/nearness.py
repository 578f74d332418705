"""Influence of the near counts, influence from afar is noise: a factor for every pair, from the network's own features.

The two halves of a network under m(i) differ in what all examples taught them; what i itself contributes to
far targets drowns in that. Data assimilation has the same disease, sampled covariances that are noise at a distance,
and cures it by an elementwise product with a function of distance (Houtekamer & Mitchell 2001; Hamill et al. 2001;
shapes: Gaspari & Cohn 1999). Here the function is ``max(0, cos)^sharpness``, the cosine of two examples' features in
the metric of `turnover.reading.features`.

And partial pooling within classes: what one mask cannot tell, hundreds of the same class can. One example's influence
on a target is its own effect in the noise of one mask. The mean over all examples of a class has next to none of that
noise, and is the best guess for an example about which nothing more is known. In a normal model with known variances
the posterior mean weighs a measurement and the mean of its group by the ratio of noise to spread between the members
(Efron & Morris 1975, *J. Am. Stat. Assoc.* 70, 311; Gelman & Hill 2007, chapter 12).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from turnover.attribution.scorer import scratch, spans
from turnover.batches.checks import Inputs, check_inputs, check_labels, check_network, check_tensor, check_tree
from turnover.batches.passes import DEFAULT_MEMORY, device_of, full_precision
from turnover.batches.tap import Features
from turnover.errors import UserError
from turnover.masking.calling import Forward, count_of
from turnover.reading.features import LARGEST, RIDGE, FeatureBlocks, features_of, spectrum
from turnover.reading.options import check_options
from turnover.reading.readings import Readings, why_no_features

# Fixed, and not tuned to a data set: agreement with retraining is flat around them, see docs/method.md.
SHARPNESS = 2.0
STRENGTH = 2.0  # of the pooling: anything between 1 and 5
_DIRECTIONS = 256  # the strongest; weaker ones hold rounding and little else
_ROWS, _COLUMNS = 1024, 4096  # of a block of `localize`


@dataclass(frozen=True, eq=False)
class Localized:
    """Ask `influence` or `summarize` for localized scores, with settings of your own.

    >>> model = insert(torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3)))
    >>> x = torch.randn(20, 4)
    >>> targets = x[:5], torch.arange(5) % 3
    >>> influence(model, torch.arange(20), *targets, localized=Localized(x, sharpness=1.0)).shape
    torch.Size([20, 5])

    Args:
        x_train: inputs of the training examples [train, ...], row for row those of `train_ids`.
        features: see `turnover.reading.features.features_of`.
        ridge: relative strength below which directions of the feature space count less.
        sharpness: exponent of the cosine; the larger, the fewer neighbours count.
        reference: inputs that mean and strength of the features are taken from; None: `x_train`. Give all training
            examples here where `x_train` are others, such as placebos, whose scores are to be comparable.

    Raises:
        TypeError: `x_train` or `reference` holds no inputs.
        ValueError: `ridge` or `sharpness` is not positive.
    """

    x_train: Inputs
    features: Features = None
    ridge: float = RIDGE
    sharpness: float = SHARPNESS
    reference: Inputs | None = None

    def __post_init__(self) -> None:
        check_tree(self.x_train, "x_train")
        if self.reference is not None:
            check_tree(self.reference, "reference")
        check_options(features=self.features, ridge=self.ridge, sharpness=self.sharpness)


class Similarity:
    """The factor of every pair for one network.

    Args:
        features: of the training examples, blocks [some, width] that can be gone through twice, on any device.
        train: how many training examples.
        targets: gives the features of some targets, of the same kind.
        device: where factors are wanted.
        reference: features that mean and strength are taken from; None: `features`.
        ridge, sharpness: see `Localized`.
        memory: bytes for 256 numbers a training example; beyond them, a temporary file is used.
    """

    def __init__(
        self,
        features: Iterable[Tensor],
        train: int,
        targets: Callable[[slice], Tensor],
        device: torch.device,
        reference: Iterable[Tensor] | None = None,
        ridge: float = RIDGE,
        sharpness: float = SHARPNESS,
        memory: int = DEFAULT_MEMORY,
    ) -> None:
        self.device, self.ridge, self.sharpness, self._targets = device, ridge, sharpness, targets
        self.spectrum = spectrum(features if reference is None else reference)
        self.train = scratch((train, min(_DIRECTIONS, len(self.spectrum.mean))), memory, device)
        start = 0
        for block in features:
            self.train[start : start + len(block)] = self._directions(block)
            start += len(block)

    def targets(self, columns: slice) -> Tensor:
        """Directions float32 [target, 256 at most] of some targets: what `factor` needs of them, as bfloat16 too."""
        return self._directions(self._targets(columns))

    @full_precision()
    def _directions(self, features: Tensor) -> Tensor:
        whitened = self.spectrum.whitened(features.to(self.spectrum.mean.device), self.ridge, _DIRECTIONS)
        return torch.nn.functional.normalize(whitened, dim=1).to(self.device)

    @full_precision()
    def factor(self, rows: slice, targets: Tensor) -> Tensor:
        """Factors in [0, 1], float32 [train, target], of the training examples at `rows`."""
        cosine = self.train[rows].to(self.device, targets.dtype) @ targets.T
        return cosine.float().clamp_(0.0, 1.0).pow_(self.sharpness)


def check_localized(localized: Localized | Inputs, train: int) -> Localized:
    """The argument `localized` of `influence` and `summarize`, with settings.

    Raises:
        TypeError: it holds no inputs.
        ValueError: there are not as many inputs as training examples, `train`.
    """
    if isinstance(localized, bool):
        raise TypeError(f"localized={localized}: pass the inputs of the training examples, or None for raw scores")
    if not isinstance(localized, Localized):
        check_tree(localized, "localized")
        localized = Localized(localized)
    if (given := count_of(localized.x_train)) != train:
        raise ValueError(f"{train} training examples but {given} inputs to localize: pass one for each")
    return localized


def similarity(
    model: nn.Module,
    asked: Localized,
    targets: Callable[[slice], Tensor],
    memory: int = DEFAULT_MEMORY,
    forward: Forward | None = None,
) -> Similarity:
    """The factors of one network, from the inputs of the training examples."""
    blocks = FeatureBlocks(model, asked.x_train, asked.features, memory, forward)
    reference = asked.reference
    return Similarity(
        blocks,
        count_of(asked.x_train),
        targets,
        device_of(model),
        None if reference is None else FeatureBlocks(model, reference, asked.features, memory, forward),
        asked.ridge,
        asked.sharpness,
        memory,
    )


def similarity_of(
    model: nn.Module, readings: Readings, targets: Callable[[slice], Tensor], memory: int = DEFAULT_MEMORY
) -> Similarity:
    """The factors of one network, from what was read of the training examples.

    Raises:
        UserError: there are no features, or they are too wide.
    """
    if readings.features is None or readings.features.width > LARGEST:
        why = why_no_features(readings, "the training examples", given=True)
        raise UserError(f'{why}, or ask for estimate="raw"')
    return Similarity(readings.features, len(readings), targets, device_of(model), memory=memory)


def localize(
    influence: Tensor,
    model: nn.Module,
    x_train: Inputs,
    x_target: Inputs,
    *,
    features: Features = None,
    ridge: float = RIDGE,
    sharpness: float = SHARPNESS,
) -> Tensor:
    """Raw influence, damped where training example and target are unlike in the eyes of `model`.

    >>> model = insert(torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3)))
    >>> x = torch.randn(20, 4)
    >>> raw = influence(model, torch.arange(20), x[:5], torch.arange(5) % 3)
    >>> near = localize(raw, model, x, x[:5])
    >>> bool((near.abs() <= raw.abs() + 1e-6).all()), bool(torch.allclose(near[2, 2], raw[2, 2]))  # each is like itself
    (True, True)

    ``influence[i, t] * max(0, cos(i, t)) ** sharpness``. Of several networks, localize the scores of each with its own
    features, and average. `turnover.influence(..., localized=x_train)` comes to the same in one go.

    Args:
        influence: scores [train, target], as `turnover.influence` gives them.
        model: the network that gave them.
        x_train: inputs of the training examples [train, ...], all of them, in the order of the rows.
        x_target: inputs of the targets [target, ...], in the order of the columns.
        features, ridge, sharpness: see `Localized`.

    Returns:
        float32 [train, target], on the device of `influence`. No score is larger than the raw one.

    Raises:
        ValueError: shapes do not fit, a setting is out of range, or the model has no features to compare.
    """
    check_network(model)
    check_tensor(influence, "influence")
    settings = Localized(x_train, features, ridge, sharpness)
    check_inputs(x_target, "x_target")
    if influence.shape != (len(x_train), len(x_target)):
        raise ValueError(
            f"influence has shape {tuple(influence.shape)}, but there are {len(x_train)} training examples and "
            f"{len(x_target)} targets"
        )
    near = similarity(model, settings, lambda columns: features_of(model, x_target, features, columns))
    out = torch.empty(influence.shape, device=influence.device)
    for columns in spans(len(x_target), _COLUMNS):
        targets = near.targets(columns)
        for rows in spans(len(x_train), _ROWS):
            torch.mul(influence[rows, columns], near.factor(rows, targets).to(out.device), out=out[rows, columns])
    return out


def pool_within_classes(localized: Tensor, factor: Tensor, y_train: Tensor, strength: float = STRENGTH) -> Tensor:
    """Localized influence, each score drawn towards what its class does to the target.

    >>> localized, factor = torch.tensor([[1.0], [3.0], [5.0]]), torch.ones(3, 1)
    >>> pool_within_classes(localized, factor, torch.tensor([0, 0, 1]), strength=1.0).flatten().tolist()
    [3.0, 5.0, 10.0]

    With D the raw scores and K the factor, ``K * (D + strength * mean of D over the class, weighted by K)``: up to a
    constant scale, ``strength`` is the variance of the noise over that of the true effects within a class.

    Args:
        localized: K * D, [train, target], as `turnover.localize` gives it.
        factor: K, [train, target]: `turnover.localize` of a matrix of ones.
        y_train: given labels of the training examples [train], integers.
        strength: not negative; 0 changes nothing.

    Returns:
        float32 [train, target].

    Raises:
        ValueError: shapes do not fit, or `strength` is negative.
        TypeError: labels are not an integer tensor.
    """
    check_options(strength=strength)
    for name, matrix in (("localized", localized), ("factor", factor)):
        check_tensor(matrix, name)
    y_train = check_labels(y_train, name="y_train")
    if localized.shape != factor.shape or localized.dim() != 2 or len(y_train) != len(localized):
        raise ValueError(
            f"localized has shape {tuple(localized.shape)}, factor {tuple(factor.shape)}, and there are {len(y_train)} "
            "labels: pass two matrices [train, target], and one label for each row"
        )
    classes, group = torch.unique(y_train.to(localized.device), return_inverse=True)
    sums, weights = (
        torch.zeros(len(classes), localized.shape[1], device=localized.device).index_add_(0, group, values.float())
        for values in (localized, factor)
    )
    # Where no example of a class is near a target, there is nothing to pool, and the factor is 0 anyway.
    mean = sums / weights.clamp(min=torch.finfo(torch.float32).tiny)
    return localized + strength * factor * mean[group]
