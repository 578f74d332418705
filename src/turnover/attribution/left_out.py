"""Influence from residuals that are left out: what an example had to teach, and what a target had still to learn.

An influence function multiplies how alike two examples are by two residuals, label less prediction: that of the
training example, and that of the target (Koh & Liang 2017, arXiv 1703.04730). A network that has learned an example by
heart has no residual left there. What retraining without the example shows is the residual of a network that has *not*
seen it; its neighbours tell (`turnover.reading.votes`), the example itself left out.

With r = y - q, q the shares of the classes among the neighbours, W the weights of the head and h what enters it:

    influence(i, t) = n * <a_i, a_t> * <g_i, g_t>,    g = (W' r) * [h > 0]

is the Kronecker-factored influence function (Martens & Grosse 2015, arXiv 1503.05671; Grosse et al. 2023,
arXiv 2308.03296) of the layer before the head: a is what enters that layer and g the gradient that would reach what
leaves it, each divided by the strength of its direction, ``(C + ridge * trace(C))^(-1/2)``. Where there is no such
layer, a is what enters the head, and nothing is switched off by ReLU.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from turnover.attribution.nearness import Similarity
from turnover.attribution.predictions import Pair
from turnover.attribution.scorer import DTYPES, Precision, spans
from turnover.attribution.targets import Targets
from turnover.batches.outputs import class_logits
from turnover.batches.passes import DEFAULT_MEMORY, device_of, full_precision, original
from turnover.errors import UserError
from turnover.reading.features import LARGEST, Spectrum, spectrum
from turnover.reading.readings import Readings
from turnover.reading.storage import Rows
from turnover.reading.votes import likeness, same_among, voters, votes

# Fixed, and chosen on a ground truth that judges nothing else (docs/method.md): of what enters the layer before the
# head, of what enters the head, and of gradients.
INNER_RIDGE, HEAD_RIDGE, GRADIENT_RIDGE = 7e-4, 1e-4, 1e-2
_ENTERING, _GRADIENTS = 512, 256  # directions, the strongest
_ROWS, _COLUMNS = 1024, 1024  # of a tile
_VOTERS = 16_384  # that tell the shares of all: more cost time and change next to nothing
_VOTING = 512  # examples that are voted on at once
_TRIED = 64  # examples on which a layer has to give the network's losses


class _Whitened(NamedTuple):
    """What enters the layer, and gradients, of some examples, along their directions and divided by their strength."""

    entering: Tensor  # [some, 512 at most]
    gradients: Tensor  # [some, 256 at most]


class LeftOut:
    """Left-out influence of one network's training examples: a scorer that needs no masks.

    Args:
        model: the network.
        readings: of the training examples.
        near: their directions, and those of the targets.
        targets: what the network sees of them.
        predictions: probabilities of another witness, of training examples and targets [n, classes]; the shares of the
            neighbours are averaged with them. Alone where nothing is near.
        memory: bytes of scratch; what does not fit goes to temporary files.
        precision: of the products of training examples with targets and with those that vote.

    Raises:
        UserError: there is no linear head, and there are too many classes to compare residuals as they are.
    """

    def __init__(
        self,
        model: nn.Module,
        readings: Readings,
        near: Similarity,
        targets: Targets,
        predictions: Pair | None = None,
        *,
        memory: int = DEFAULT_MEMORY,
        precision: Precision = "float32",
    ) -> None:
        self.classes, self.device, self.near, self._targets = targets.classes, device_of(model), near, targets
        self._dtype = DTYPES[precision]
        self._labels, self._layer, self._readings = readings.labels.to(self.device), readings.layer, readings
        self._head = head_weight(model, readings)
        if self._head is None and self.classes > LARGEST:
            raise UserError(
                f'estimate="left-out" compares residuals of {self.classes} classes as they are where the features do '
                f'not enter a linear head, at most {LARGEST}: ask for estimate="pooled"'
            )
        self._predictions = predictions
        chosen = voters(len(readings), most=_VOTERS)
        self._voters = chosen.to(self.device)
        self._votes_for = self._labels[self._voters]
        self._reference = near.train[chosen].to(self.device, self._dtype)
        self._shares = Rows(memory=memory // 4)
        with full_precision():
            for part in spans(len(readings), _VOTING):
                places = torch.arange(part.start, part.stop, device=self.device)
                itself = same_among(places, self._voters)
                shares = self._votes(near.train[part].to(self.device), itself)
                self._shares.append(self._with_predictions(shares, 0, part))
            entering = readings.features if readings.inner is None else readings.inner
            assert entering is not None
            of_gradients = spectrum(_Blocks(self))
            # A gradient of nothing says nothing: less the mean, a target that is known for sure would have one.
            of_gradients = of_gradients._replace(mean=torch.zeros_like(of_gradients.mean))
            self._entering, self._gradients = spectrum(entering), of_gradients
            self._on_device = [
                Spectrum(*(part.to(self.device) for part in of)) for of in (self._entering, self._gradients)
            ]
            self._rows = Rows(memory=memory // 2), Rows(memory=memory // 4)
            for part in spans(len(readings), _ROWS):
                whitened = self._whitened(entering[part].to(self.device), self.gradients(part))
                for kept, of in zip(self._rows, whitened, strict=True):
                    kept.append(of)

    def gradients(self, rows: slice) -> Tensor:
        """Gradients of the left-out residuals of some training examples, float32 [some, units]."""
        assert self._readings.features is not None
        shares, features = self._shares[rows].to(self.device), self._readings.features[rows].to(self.device)
        return self._gradient(shares, self._labels[rows], features, gated=self._readings.inner is not None)

    @full_precision()
    def prepare(self, columns: slice) -> _Whitened:
        labels = self._targets.labels[columns].to(self.device)
        features = self._targets.features(columns, self._layer)
        shares = torch.cat([self._votes(part) for part in torch.split(self.near.targets(columns), _VOTING)])
        shares = self._with_predictions(shares, 1, columns)
        gated = self._readings.inner is not None
        entering = self._targets.inner(columns) if gated else features
        whitened = self._whitened(entering, self._gradient(shares, labels, features, gated=gated))
        return _Whitened(*(of.to(self._dtype) for of in whitened))

    @full_precision()
    def tile(self, rows: slice, prepared: _Whitened) -> Tensor:
        entering, gradients = (of[rows].to(self.device, self._dtype) for of in self._rows)
        alike = (entering @ prepared.entering.T).float()
        return alike.mul_(gradients @ prepared.gradients.T).mul_(float(len(self._readings)))

    def block(self, targets: int, memory: int) -> tuple[int, int]:
        numbers = _ENTERING + _GRADIENTS
        columns = min(targets, _COLUMNS, max(1, memory // (8 * numbers)))
        return max(1, min(_ROWS, memory // (2 * 4 * (numbers + 2 * columns)))), columns

    def _votes(self, unit: Tensor, itself: tuple[Tensor, Tensor] | None = None) -> Tensor:
        weight = likeness(unit.to(self._dtype), self._reference, itself=itself)
        return votes(weight, self._votes_for, self.classes)

    def _with_predictions(self, shares: Tensor, of: int, rows: slice) -> Tensor:
        if self._predictions is None:
            return shares
        said = self._predictions[of][rows].to(shares)
        return torch.where(shares.sum(1, keepdim=True) > 0.0, (shares + said) / 2, said)

    def _gradient(self, shares: Tensor, labels: Tensor, features: Tensor, *, gated: bool) -> Tensor:
        residual = F.one_hot(labels, self.classes).float() - shares
        if self._head is None:
            return residual
        gradient = residual @ self._head
        return gradient * (features > 0) if gated else gradient

    def _whitened(self, entering: Tensor, gradients: Tensor) -> _Whitened:
        ridge = HEAD_RIDGE if self._readings.inner is None else INNER_RIDGE
        of_entering, of_gradients = self._on_device
        return _Whitened(
            of_entering.whitened(entering, ridge, _ENTERING),
            of_gradients.whitened(gradients, GRADIENT_RIDGE, _GRADIENTS),
        )


class _Blocks:
    """The gradients of all training examples, as often as they are gone through."""

    def __init__(self, of: LeftOut) -> None:
        self._of = of

    def __iter__(self) -> Iterator[Tensor]:
        return (self._of.gradients(part) for part in spans(len(self._of._readings), _ROWS))


def head_weight(model: nn.Module, readings: Readings) -> Tensor | None:
    """Weights [classes, units] of the linear layer that makes logits of the features; None where none does.

    It is known by the losses that were read: those of its logits. One logit z stands for the logits [0, z].
    """
    if readings.features is None:
        return None
    device = device_of(model)
    features, labels = readings.features[:_TRIED].to(device), readings.labels[:_TRIED].to(device)
    losses = readings.values["loss_full"][:_TRIED].to(device)
    for module in original(model).modules():
        if not isinstance(module, nn.Linear) or module.in_features != readings.features.width:
            continue
        weight, bias = module.weight.detach().float(), module.bias
        logits = class_logits(F.linear(features, weight, None if bias is None else bias.detach().float()))
        if logits.shape[1] == readings.classes and torch.allclose(
            F.cross_entropy(logits, labels, reduction="none"), losses, rtol=1e-2, atol=1e-3
        ):
            return weight if len(weight) > 1 else torch.cat([torch.zeros_like(weight), weight])
    return None
