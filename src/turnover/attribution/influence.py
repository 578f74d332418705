"""Influence of training examples on targets: every pair, tile by tile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from turnover.attribution.any_network import GeneralScorer
from turnover.attribution.fused import WORTH_COMPILING
from turnover.attribution.head import HeadScorer
from turnover.attribution.nearness import Localized, Similarity, similarities
from turnover.attribution.scorer import DTYPES, Measure, Precision, Scorer, spans
from turnover.attribution.store import ScoreStore
from turnover.errors import UserError
from turnover.masking.layer import masked_layers
from turnover.masking.subnetworks import subnetwork
from turnover.reading.checks import Inputs, check_example_ids, check_inputs, check_labels
from turnover.reading.features import features_and_logits
from turnover.reading.outputs import masked_head
from turnover.reading.passes import DEFAULT_MEMORY, device_of, evaluating, original


def influence(
    model: nn.Module,
    train_ids: Tensor,
    x: Inputs,
    y: Tensor,
    measure: Measure = "loss",
    *,
    precision: Precision = "float32",
    memory: int = DEFAULT_MEMORY,
    fused: bool | None = None,
    localized: Localized | Inputs | None = None,
) -> Tensor:
    """Influence of every training example on every target, in evaluation mode.

    Args:
        model: a network with turn-over dropout.
        train_ids: ids [train] of training examples, in any order; repeated ones are warned of.
        x: inputs of the targets [target, ...], as the model takes them, on any device: a tensor, or anything with a
            length that makes the tensor of a slice when asked.
        y: labels of the targets, integers [target] of any type.
        measure: "loss": L(~m(i), t) - L(m(i), t) in nats. "margin": margin(m(i), t) - margin(~m(i), t).
        precision: of the matrix products.
        memory: bytes of scratch, beside masks and result; one row of few targets is the least.
        fused: compile the loss difference; by default where that pays.
        localized: inputs of the training examples [train, ...], row for row those of `train_ids`: gives what
            `turnover.localize` makes of the scores, far closer to retraining. None: the raw scores.

    Returns:
        float32 [train, target], on the CPU. Positive: the training example helps.

    Raises:
        ValueError: an argument is out of range or shapes do not fit; the model has no turn-over
            dropout, or its forward pass reaches none of it; its output for a target is NaN or infinite.
        TypeError: inputs are no tensors, or ids or labels are not integer tensors.
    """
    scorer = make_scorer(model, train_ids, x, y, measure, precision, fused)
    out = torch.empty(len(train_ids), len(y))
    near = similarities([model], len(train_ids), localized, memory)
    height, width = scorer.block(len(y), memory)
    for tile in tiles([scorer], near, spans(len(train_ids), height), spans(len(y), width), x, y.long()):
        out[tile.rows, tile.columns] = tile.scores[0].cpu()
    return out


class Tile(NamedTuple):
    """Scores of some training examples on some targets, float32 [train, target] of every network."""

    rows: slice
    columns: slice
    raw: list[Tensor]
    scores: list[Tensor]  # localized, or else the raw ones


def tiles(
    scorers: Sequence[Scorer],
    near: Sequence[Similarity],
    rows: Sequence[slice],
    columns: Sequence[slice],
    x: Inputs,
    y: Tensor,
    store: ScoreStore | None = None,
) -> Iterator[Tile]:
    """All tiles: down the training examples for one block of targets, then on to the next.

    Args:
        scorers: one for each network.
        near: to localize the scores of each network; empty for raw ones.
        rows, columns: parts of the training examples and of the targets.
        x, y: inputs and labels (int64) of all targets.
        store: read raw scores from there, and write those that it does not have.

    Raises:
        UserError: a score is NaN or infinite.
    """
    device = scorers[0].device
    for block in columns:
        inputs, labels = x[block].to(device), y[block].to(device)
        prepared: list[Any] = []  # only once a tile is missing from the store
        targets = [similar.targets(inputs) for similar in near]
        for part in rows:
            raw = []
            for number, scorer in enumerate(scorers):
                tile = store.read(number, part, block) if store is not None else None
                if tile is None:
                    prepared = prepared or [scorer.prepare(inputs, labels) for scorer in scorers]
                    tile = scorer.tile(part, prepared[number])
                    tile = store.write(number, part, block, tile) if store is not None else tile
                raw.append(tile.to(device))
                # Exposed and flipped units together are all units: one training example's scores tell of every one's.
                if part.start == 0 and not bool(raw[-1][0].isfinite().all()):
                    wrong = block.start + int(raw[-1][0].isfinite().logical_not().nonzero()[0])
                    raise UserError(
                        f"the network's output for target {wrong} is NaN or infinite: did the training diverge, or "
                        "does x hold NaN or huge values there?"
                    )
            factors = (similar.factor(part, of) for similar, of in zip(near, targets, strict=True))
            scores = [tile * factor for tile, factor in zip(raw, factors, strict=True)] if near else raw
            yield Tile(part, block, raw, scores)


def make_scorer(
    model: nn.Module,
    train_ids: Tensor,
    x: Inputs,
    y: Tensor,
    measure: Measure,
    precision: Precision,
    fused: bool | None = None,
) -> Scorer:
    """The fastest way to score pairs of this model; arguments and errors as for `influence`."""
    check_example_ids(train_ids, "train_ids")
    check_inputs(x)
    check_labels(y, name="y")
    if len(x) != len(y):
        raise ValueError(f"{len(x)} targets but {len(y)} labels: pass one label for each target")
    if not len(y) or not len(train_ids):
        raise ValueError(f"{len(train_ids)} training examples and {len(y)} targets: there must be some of both")
    if not isinstance(measure, str):
        raise ValueError(
            f'measure must be "loss" or "margin", got a {type(measure).__name__}: inputs of the training examples are '
            "the argument localized"
        )
    if measure not in ("loss", "margin"):
        raise ValueError(f'measure={measure!r}: use "loss" or "margin"')
    if precision not in DTYPES:
        raise ValueError(f'precision={precision!r}: use "float32" or "bfloat16"')
    if not masked_layers(model):
        raise ValueError("the model has no turn-over dropout: call insert(model, ...) first")
    model = original(model)  # compiled code would hide what goes into the head
    device = device_of(model)
    masked, features = masked_head(model), None
    with evaluating(model):
        if masked is not None:
            features, logits = features_and_logits(model, masked.linear, x[:1].to(device))
        if features is None:
            with subnetwork(model, train_ids[:1]):
                logits = model(x[:1].to(device))
    classes = logits.shape[-1]
    check_labels(y, classes, "y")
    if masked is None or features is None:
        return GeneralScorer(model, train_ids, x[:2].to(device), classes, measure, precision)
    fused = len(train_ids) * len(y) >= WORTH_COMPILING if fused is None else fused
    return HeadScorer(model, masked, train_ids, measure, precision, fused)
