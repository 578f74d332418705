"""What `influence` and `summarize` are asked: networks, training examples and targets, in whatever form they come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor, nn

from turnover.attribution.any_network import GeneralScorer
from turnover.attribution.blends import Blend, Combined, Pooled
from turnover.attribution.fused import WORTH_COMPILING
from turnover.attribution.head import HeadScorer
from turnover.attribution.left_out import LeftOut
from turnover.attribution.nearness import Similarity, check_localized, similarity, similarity_of
from turnover.attribution.predictions import Pair, check_predictions, fitting
from turnover.attribution.scorer import DTYPES, Measure, Precision, Scorer
from turnover.attribution.targets import GivenTargets, ReadTargets, Targets
from turnover.batches.checks import check_example_ids, check_labels, check_names, check_tree, given_labels
from turnover.errors import UserError
from turnover.masking.calling import Forward, count_of
from turnover.masking.ids import example_ids
from turnover.masking.layer import masked_layers
from turnover.reading.one_pass import read
from turnover.reading.options import check_choice, check_options
from turnover.reading.readings import FUNCTION, Readings

_ONCE = "an iterator is gone through once, and there are several networks: pass a data set or loader"

Estimate = Literal["raw", "localized", "pooled", "left-out", "combined"]
ESTIMATES: tuple[Estimate, ...] = get_args(Estimate)
_LEFT_OUT: tuple[Estimate, ...] = ("left-out", "combined")


class Asked(NamedTuple):
    """How to read and to score; see `turnover.influence`."""

    measure: Measure = "loss"
    estimate: Estimate | None = None
    precision: Precision = "float32"
    memory: int = 1 << 30
    fused: bool | None = None
    forward: Forward | None = None
    localized: Any = None
    batch_size: int = 256
    classes: Sequence[str] | None = None
    progress: bool | None = None
    predictions: Any = None


class TrainingExamples(NamedTuple):
    """Training examples, and what is known of them beside their ids."""

    ids: Tensor  # int64 [train], what masks are drawn from
    names: np.ndarray[Any, Any]  # the ids as they were given, [train]: integers or strings
    labels: Tensor | None = None  # int64 [train]
    floats: bool = False  # whether the labels were given as 0.0 and 1.0
    readings: Sequence[Readings] = ()  # by each network


class Pairs(NamedTuple):
    """Training examples and targets, ready to be scored by each of some networks."""

    train: TrainingExamples
    labels: Tensor  # of the targets, int64 [target]
    classes: int
    targets: list[Targets]
    scorers: list[Scorer]
    near: list[Similarity]  # empty for raw scores
    blend: Blend | None  # what scores are made of beside raw scores and factors
    left_out: list[LeftOut]  # empty where they are not a part of the scores
    precision: Precision  # of products

    def contents(self) -> Iterator[Tensor]:
        """What scores depend on beside networks and settings, for a fingerprint."""
        yield self.train.ids
        yield self.labels
        # Inputs are the same for every network; what was read is each network's own.
        for targets in self.targets[:1] if isinstance(self.targets[0], GivenTargets) else self.targets:
            yield from targets.contents()


def pairs_of(
    networks: Sequence[nn.Module], train: Any, targets: Any, y: Any, asked: Asked, train_labels: Any = None
) -> Pairs:
    """Read what has to be read, check everything once, and choose the fastest way to score.

    Args:
        networks: one or more.
        train, targets, y: as for `turnover.influence`.
        train_labels: of training examples given as ids, if they are known.

    Raises:
        TypeError, ValueError: as `turnover.influence`.
    """
    _check_settings(networks, asked)
    of_ids: Estimate = "raw" if asked.localized is None else "localized"
    estimate = asked.estimate or (of_ids if _is_ids(train) else _best(asked))
    _check_estimate(estimate, networks, asked)
    if estimate == "raw" and asked.localized is not None:
        raise ValueError('localized= is given, but estimate="raw" asks for scores that are not: leave one of them out')
    predictions = None if asked.predictions is None else check_predictions(asked.predictions, len(networks))
    known = _training_examples(networks, train, train_labels, asked, compare=estimate != "raw")
    localized = None if asked.localized is None else check_localized(asked.localized, len(known.ids))
    if estimate != "raw" and localized is None and not known.readings:
        raise UserError(
            f'estimate="{estimate}" compares training examples and targets, and ids alone do not say what the training '
            "examples are: pass their data as `train`, or their inputs as localized=..."
        )
    if estimate in ("pooled", *_LEFT_OUT) and known.labels is None:
        raise UserError(
            f'estimate="{estimate}" needs the labels of the training examples: pass data with labels as `train`, or '
            'ask for estimate="localized"'
        )
    elsewhere = any(readings.layer is not None for readings in known.readings) or (
        localized is not None and localized.features is not None
    )
    needs = _Needs(inputs=elsewhere and estimate != "raw", masks=estimate != "left-out")
    views = _targets(networks, known.ids, targets, y, asked, needs)
    classes = [of.classes for of in views]
    if len(set(classes)) > 1:
        raise UserError(f"the models have different numbers of classes: {classes}")
    if known.labels is not None:
        check_labels(known.labels, classes[0], "train_labels", floats=known.floats)
    near = []
    if estimate != "raw":
        for number, (network, of) in enumerate(zip(networks, views, strict=True)):
            memory = asked.memory // (4 * len(networks))
            if localized is not None:
                near.append(similarity(network, localized, _features(of, localized.features), memory, asked.forward))
            else:
                readings = known.readings[number]
                near.append(similarity_of(network, readings, _features(of, _layer(readings)), memory))
    left_out: list[LeftOut] = []
    if estimate in _LEFT_OUT:
        memory = asked.memory // (4 * len(networks))
        beside: Sequence[Pair | None] = [None] * len(networks)
        if predictions is not None:
            assert known.labels is not None
            of_targets = views[0].ids, views[0].labels
            beside = fitting(predictions, (known.ids, known.labels), of_targets, classes[0])
        every = zip(networks, known.readings, near, views, beside, strict=True)
        left_out = [LeftOut(*of, memory=memory, precision=asked.precision) for of in every]
    if estimate == "left-out":
        return Pairs(known, views[0].labels, classes[0], views, list(left_out), [], None, [], asked.precision)
    scorers = [scorer_of(network, known.ids, of, asked) for network, of in zip(networks, views, strict=True)]
    blend: Blend | None = None
    if estimate == "pooled" and known.labels is not None:
        blend = Pooled(known.labels.to(scorers[0].device))
    if estimate == "combined":
        blend = Combined(len(known.ids), scorers[0].device)
    return Pairs(known, views[0].labels, classes[0], views, scorers, near, blend, left_out, asked.precision)


def _best(asked: Asked) -> Estimate:
    """The estimate of data with labels that nobody chose one for."""
    # Settings of the user's are of the localization; and of the margin there is no residual.
    return "pooled" if asked.localized is not None or asked.measure == "margin" else "combined"


def _check_estimate(estimate: Estimate, networks: Sequence[nn.Module], asked: Asked) -> None:
    if estimate != "left-out" and not all(map(masked_layers, networks)):
        raise ValueError(
            'the model has no turn-over dropout: call insert(model, ...) first, or ask for estimate="left-out", which '
            "needs none"
        )
    if estimate not in _LEFT_OUT:
        if asked.predictions is not None:
            raise UserError(
                f'predictions= is given, but estimate="{estimate}" has no use for them: leave them out, or ask for '
                'estimate="combined" or "left-out"'
            )
        return
    if asked.measure == "margin":
        raise ValueError(f'estimate="{estimate}" is of the loss: leave measure="margin" out')
    if asked.localized is not None:
        raise ValueError(f'estimate="{estimate}" reads features of its own: leave localized= out')


def scorer_of(network: nn.Module, ids: Tensor, targets: Targets, asked: Asked) -> Scorer:
    """The fastest way to score pairs of this network."""
    ids = ids.to(targets.device if targets.device.type == "cuda" else "cpu")  # where masks are quickly drawn
    if targets.short is None:
        return GeneralScorer(network, ids, targets, asked.measure, asked.precision)
    fused = len(ids) * len(targets.labels) >= WORTH_COMPILING if asked.fused is None else asked.fused
    return HeadScorer(targets.short, ids, targets, asked.measure, asked.precision, fused)


def _check_settings(networks: Sequence[nn.Module], asked: Asked) -> None:
    measure = asked.measure
    check_options(
        memory=asked.memory, fused=asked.fused, forward=asked.forward, batch_size=asked.batch_size,
        classes=asked.classes, progress=asked.progress,
    )  # fmt: skip
    if not isinstance(measure, str):
        raise ValueError(
            f'measure must be "loss" or "margin", got a {type(measure).__name__}: inputs of the training examples are '
            "the argument localized"
        )
    check_choice("measure", measure, ("loss", "margin"))
    check_choice("precision", asked.precision, DTYPES)
    if asked.estimate is not None:
        check_choice("estimate", asked.estimate, ESTIMATES)


def _is_ids(train: Any) -> bool:
    """Whether training examples are given by their ids alone: a column of integers or names."""
    if isinstance(train, (list, tuple)):
        return all(isinstance(one, (int, str, np.integer)) for one in train)
    return isinstance(train, range) or hasattr(train, "__array__")


def _training_examples(
    networks: Sequence[nn.Module], train: Any, labels: Any, asked: Asked, *, compare: bool
) -> TrainingExamples:
    if _is_ids(train):
        if np.ndim(train) > 1:
            raise UserError(
                f"the training examples are a {type(train).__name__} of shape {tuple(np.shape(train))}, inputs without "
                "labels: pass (x, y), a data set or a loader, or ids alone"
            )
        names = check_names(train, "train_ids")
        found = TrainingExamples(example_ids(names), names)
        if labels is not None:
            labels, floats = given_labels(labels, "train_labels", asked.classes)
            found = found._replace(labels=labels.cpu(), floats=floats)
            if len(labels) != len(names):
                raise UserError(f"{len(names)} training ids but {len(labels)} training labels: pass one for each")
        if not len(names):
            raise UserError("there are no training examples: pass at least one")
    else:
        if len(networks) > 1 and isinstance(train, Iterator):
            raise UserError(
                "an iterator is gone through once, and there are several networks: pass a data set or loader"
            )
        readings = _readings(networks, train)
        if readings is None:
            settings = _reading(asked, asked.memory // (2 * len(networks)))
            if not compare or asked.localized is not None:
                settings["features"] = False
            readings = [read(network, train, masked=False, **settings) for network in networks]
        first, *others = readings
        for number, other in enumerate(others, 2):
            if not torch.equal(first.ids, other.ids) or not torch.equal(first.labels, other.labels):
                raise UserError(
                    f"network {number} has read other training examples than network 1 (other ids or labels, or "
                    "another order): read the same data with each"
                )
        found = TrainingExamples(first.ids, first.names, first.labels, readings=readings)
    check_example_ids(found.ids, "train_ids")
    return found


def _readings(networks: Sequence[nn.Module], given: Any) -> list[Readings] | None:
    """Readings that were given for each network; None where it is something else.

    Raises:
        UserError: they are not one a network, or another network's.
    """
    several = [given] if isinstance(given, Readings) else given
    if not isinstance(several, (list, tuple)) or not several or not isinstance(several[0], Readings):
        return None
    if len(several) != len(networks):
        raise UserError(f"{len(networks)} networks but {len(several)} readings: pass a list, one for each network")
    return [readings.of(network) for network, readings in zip(networks, several, strict=True)]


class _Needs(NamedTuple):
    """What will be asked of the targets."""

    inputs: bool  # to find features by, of another layer than the head's
    masks: bool  # what sub-networks say of them


def _targets(
    networks: Sequence[nn.Module], ids: Tensor, targets: Any, y: Any, asked: Asked, needs: _Needs
) -> list[Targets]:
    if y is not None:
        check_tree(targets)
        labels, floats = given_labels(y, "y", asked.classes)
        if (count := count_of(targets)) != len(labels):
            raise UserError(f"{count} targets but {len(labels)} labels: pass one label for each target")
        if not count:
            raise UserError("there are no targets: pass at least one")
        views = [GivenTargets(network, targets, labels, ids, asked.forward) for network in networks]
        check_labels(labels, views[0].classes, "y", floats=floats)
        return list(views)
    if len(networks) > 1 and isinstance(targets, Iterator):
        raise UserError(_ONCE)
    given = _readings(networks, targets)
    found: list[Targets] = []
    first: Readings | None = None
    for number, network in enumerate(networks):
        of = given[number] if given is not None else _read_targets(network, targets, asked, needs)
        found.append(ReadTargets(network, of, asked.forward, scored=needs.masks))
        first = first or of
        if not (torch.equal(first.labels, of.labels) and torch.equal(first.ids, of.ids)):
            raise UserError(
                f"network {number + 1} has read other targets than network 1, or in another order: read the same data "
                "with each"
            )
    return found


def _read_targets(network: nn.Module, data: Any, asked: Asked, needs: _Needs) -> Readings:
    """What scores of this network need of the targets: features and logits, or else the inputs."""
    settings = _reading(asked, asked.memory // 4)
    if not needs.masks:
        return read(network, data, masked=False, inputs=needs.inputs, **settings)
    if len(masked_layers(network)) == 1:  # maybe that of its head, which only trying it shows
        once = isinstance(data, Iterator)
        found = read(network, data, logits=True, inputs=once or needs.inputs, **settings)
        if found.short or once:
            return found
    return read(network, data, masked=False, inputs=True, **settings)


def _reading(asked: Asked, memory: int) -> dict[str, Any]:
    return {
        "batch_size": asked.batch_size,
        "classes": asked.classes,
        "forward": asked.forward,
        "memory": memory,
        "progress": asked.progress,
    }


def _layer(readings: Readings) -> Any:
    """Where the features of these readings come from; targets are compared by the same.

    Raises:
        UserError: from a function that was not kept with them.
    """
    if readings.layer == FUNCTION:
        raise UserError(
            "the features of these readings were given by a function, which is not kept in a folder: pass localized="
            "Localized(x, features=function)"
        )
    return readings.layer


def _features(targets: Targets, features: Any) -> Any:
    return lambda columns: targets.features(columns, features)
