"""The targets of influence as one network sees them: labels, inputs, and what its head gets and gives."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from turnover.batches.outputs import MaskedHead, Reader, alike, class_logits, short_way
from turnover.batches.passes import device_of, evaluating, moved, original
from turnover.batches.tap import Features, Tap
from turnover.errors import UserError
from turnover.masking.calling import Forward, part_of, tensors_in
from turnover.reading.inner import Catching, inner_layer
from turnover.reading.readings import Readings, why_no_features

_BATCH = 256  # targets that go through the network at once
_TRIED = 16  # targets on which the fast path has to give what the network itself gives


class Targets(Protocol):
    """What scorers and similarities ask about targets. Everything is on the network's device but the labels."""

    ids: Tensor | None  # int64 [target], where targets have any
    labels: Tensor  # int64 [target], on the CPU
    classes: int
    device: torch.device
    short: MaskedHead | None  # proved: scores follow from what enters this head

    def batches(self, rows: slice) -> Iterator[tuple[slice, Any]]:
        """Which targets, and their inputs: as many at a time as may go through the network together."""

    def run(self, inputs: Any) -> Tensor:
        """Logits [batch, classes] of a batch of inputs, with all hooks, in evaluation mode."""

    def head(self, rows: slice) -> tuple[Tensor, Tensor]:
        """What enters the head [target, units], and the logits [target, classes]: float32; only with a short way."""

    def features(self, rows: slice, features: Features) -> Tensor:
        """Features [target, width] to compare with those of training examples, float32; see `Tap`."""

    def inner(self, rows: slice) -> Tensor:
        """What enters the layer before the head [target, width], float32; only where training examples have it."""

    def contents(self) -> Iterator[Tensor]:
        """All that scores depend on beside network and labels, for a fingerprint."""


class GivenTargets:
    """Targets given as inputs, which go through the network when they are needed.

    Args:
        model: a network with turn-over dropout.
        x: inputs of the targets: a tensor, a tree of them, or anything with a length that makes the tensor of a slice.
        labels: int64 [target].
        ids: of some training examples, whose masks are tried.
        forward: see `turnover.influence`.

    Raises:
        UserError: the network gives no class logits, or its forward pass never reaches the masks.
    """

    def __init__(self, model: nn.Module, x: Any, labels: Tensor, ids: Tensor, forward: Forward | None = None) -> None:
        self.ids: Tensor | None = None
        self.labels, self.device = labels.cpu(), device_of(model)
        self._model, self._x, self._forward = model, x, forward
        self._last: tuple[slice, Tensor, Tensor, Tensor | None] | None = None
        reader = Reader(model, forward=forward)
        _, few = next(self.batches(slice(0, min(_TRIED, len(labels)))))
        with evaluating(model), uncompiled():
            tried = ids[torch.arange(len(self.labels[:_TRIED]), device=ids.device) % len(ids)]
            self.classes: int = reader(few, tried)[0].full.shape[1]
            layer = inner_layer(reader.tap, few)
        self.short = reader.short
        self._catching = None if layer is None else Catching(layer)
        self._taps: dict[Features, Tap] = {None: reader.tap}

    def batches(self, rows: slice) -> Iterator[tuple[slice, Any]]:
        yield rows, moved(part_of(self._x, rows), self.device)

    def run(self, inputs: Any) -> Tensor:
        with evaluating(self._model), uncompiled():
            return class_logits(self._taps[None].forward(original(self._model), inputs))

    def head(self, rows: slice) -> tuple[Tensor, Tensor]:
        features, logits, _ = self._through(rows, None)
        if self.short is not None and not alike(F.linear(features, *self.short.weights()), logits):
            raise UserError(
                f"for some of the targets {rows.start} to {rows.stop - 1} the network does not give what its last "
                "linear layer gives, as it does for the first ones (are logits clamped?): pass targets=(x, y) as one "
                "argument, all of which are looked at before the way of scoring is chosen"
            )
        return features, logits

    def features(self, rows: slice, features: Features) -> Tensor:
        return self._through(rows, features)[0]

    def inner(self, rows: slice) -> Tensor:
        found = self._through(rows, None)[2]
        assert found is not None
        return found

    def contents(self) -> Iterator[Tensor]:
        for start in range(0, len(self.labels), 1024):
            yield from tensors_in(part_of(self._x, slice(start, start + 1024)))

    def _through(self, rows: slice, features: Features) -> tuple[Tensor, Tensor, Tensor | None]:
        """Features, logits and what enters the layer before the head; those that enter the head are remembered, as
        scores and similarities ask for them.
        """
        if features is None and self._last is not None and self._last[0] == rows:
            return self._last[1:]
        tap = self._taps.setdefault(features, Tap(self._model, features, self._forward))
        found, inner = [], []
        catching = self._catching if features is None else None
        with evaluating(self._model), uncompiled():
            for start in range(rows.start, rows.stop, _BATCH):
                for _, inputs in self.batches(slice(start, min(start + _BATCH, rows.stop))):
                    with catching or nullcontext():
                        of, logits = tap(inputs)
                    found.append((_or_refuse(of).float(), class_logits(logits).float()))
                    if catching is not None:
                        inner.append(catching.first.float())
        of_all = torch.cat([of for of, _ in found]), torch.cat([logits for _, logits in found])
        entering = torch.cat(inner) if inner else None
        if features is None:
            self._last = rows, *of_all, entering
        return *of_all, entering


class ReadTargets:
    """Targets that were read: what enters a proved head is enough, otherwise their inputs were kept.

    Args:
        model, forward: as for `GivenTargets`.
        readings: of the targets, by this network.
        scored: False: only their features will be asked for.

    Raises:
        UserError: the scores of this network need the inputs.
    """

    def __init__(
        self, model: nn.Module, readings: Readings, forward: Forward | None = None, *, scored: bool = True
    ) -> None:
        self.ids: Tensor | None = readings.ids
        self.labels, self.classes, self.device = readings.labels, readings.classes, device_of(model)
        linears = (module for module in original(model).modules() if isinstance(module, nn.Linear))
        heads = [way for linear in linears if (way := short_way(model, linear)) is not None] if readings.short else []
        self.short = heads[0] if heads else None
        self._model, self._readings, self._forward = model, readings, forward
        self._tap = Tap(model, None, forward)
        if scored and self.short is None and readings._inputs is None:
            why = (
                "they do not follow from what enters its last linear layer"
                if "loss_exposed" in readings.values
                else "the targets were read with masked=False, which does not try whether features are enough"
            )
            raise UserError(
                f"the scores of this network need the inputs of the targets, because {why}: pass the data of the "
                "targets instead of their readings"
            )

    def batches(self, rows: slice) -> Iterator[tuple[slice, Any]]:
        for batch in self._readings.batches:
            some = slice(max(rows.start, batch.start), min(rows.stop, batch.stop))
            if some.start < some.stop:
                yield some, moved(self._readings.inputs(some), self.device)

    def run(self, inputs: Any) -> Tensor:
        with evaluating(self._model), uncompiled():
            return class_logits(self._tap.forward(self._tap.model, inputs))

    def head(self, rows: slice) -> tuple[Tensor, Tensor]:
        assert self.short is not None
        features, kept = self.features(rows, self._readings.layer), self._readings.logits
        if kept is None:
            return features, F.linear(features, *self.short.weights())
        return features, class_logits(kept[rows].to(self.device))

    def features(self, rows: slice, features: Features) -> Tensor:
        if features is self._readings.layer or features == self._readings.layer:
            if (kept := self._readings.features) is None:
                raise UserError(why_no_features(self._readings, "the targets", given=True))
            return kept[rows].to(self.device)
        if self._readings._inputs is None:
            raise UserError(
                f"training examples and targets are compared by features={features!r}, but the targets were read with "
                f"features={self._readings.layer!r}: read both alike, or pass the data of the targets"
            )
        tap = Tap(self._model, features, self._forward)
        with evaluating(self._model), uncompiled():
            return torch.cat([_or_refuse(tap(inputs)[0]).float() for _, inputs in self.batches(rows)])

    def inner(self, rows: slice) -> Tensor:
        if (kept := self._readings.inner) is None:
            raise UserError(
                "the training examples were read with what enters the layer before the head, the targets without: read "
                "both alike, or pass the data of the targets"
            )
        return kept[rows].to(self.device)

    def contents(self) -> Iterator[Tensor]:
        for start in range(0, len(self.labels), 1024):
            rows = slice(start, min(start + 1024, len(self.labels)))
            if self.short is not None:
                yield from self.head(rows)
            else:
                yield from (value for _, inputs in self.batches(rows) for value in tensors_in(inputs))


def uncompiled() -> AbstractContextManager[None]:
    """Within: compiled networks run as they were written, for compiled code does not see new hooks."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and importing the compiler takes seconds
        return nullcontext()
    return torch.compiler.set_stance("force_eager")  # type: ignore[no-any-return]


def _or_refuse(features: Tensor | None) -> Tensor:
    if features is None:
        raise UserError(
            "the network has no linear layer whose input could be its features: name a module in `features`, or ask "
            'for estimate="raw"'
        )
    return features
