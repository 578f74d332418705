"""Influence of training examples on targets: every pair, tile by tile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from turnover.attribution.arguments import Asked, Estimate, pairs_of
from turnover.attribution.nearness import Localized
from turnover.attribution.predictions import Predicted
from turnover.attribution.scorer import Measure, Precision, spans
from turnover.attribution.tiles import Tiles, grid_of
from turnover.batches.checks import Inputs, networks_of
from turnover.batches.passes import DEFAULT_MEMORY, full_precision
from turnover.masking.calling import Forward


def influence(
    model: nn.Module | Sequence[nn.Module],
    train: Any,
    targets: Any,
    y: Any = None,
    measure: Measure = "loss",
    *,
    estimate: Estimate | None = None,
    predictions: Predicted | Sequence[Predicted] | None = None,
    precision: Precision = "float32",
    memory: int = DEFAULT_MEMORY,
    fused: bool | None = None,
    forward: Forward | None = None,
    localized: Localized | Inputs | None = None,
    batch_size: int = 256,
    classes: Sequence[str] | None = None,
) -> Tensor:
    """Influence of every training example on every target, in evaluation mode.

    >>> model = insert(torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3)))
    >>> x, y = torch.randn(20, 4), torch.arange(20) % 3
    >>> scores = influence(model, (x, y), (x[:5], y[:5]))  # of a data set or data loader the same
    >>> scores.shape
    torch.Size([20, 5])
    >>> raw = influence(model, torch.arange(20), x[:5], y[:5])  # ids alone: the raw scores

    Args:
        model: a network with turn-over dropout, or several, whose scores are averaged pair by pair.
        train: the training examples: data as for `turnover.read` (a data set, a data loader, a tuple of tensors
            ``(x, y)`` or ``(x, y, ids)``), or what `read` made of it (of several networks a list, one each). Or their
            ids alone, integers or names in any order; repeated ones are warned of.
        targets: data in the same forms (the ids of targets play no part), or, with `y`, their inputs: a tensor, a dict
            or tuple of tensors, or anything with a length that makes the tensor of a slice when asked. On any device.
        y: labels of the targets, integers [target] of any type, if `targets` are inputs.
        measure: "loss": L(~m(i), t) - L(m(i), t) in nats. "margin": margin(m(i), t) - margin(~m(i), t).
        estimate: "raw": as measured by the masks. "localized": see `turnover.localize`; far closer to retraining.
            "pooled": see `turnover.pool_within_classes`; closer still. "left-out": from residuals as if neither example
            had been seen, see `turnover.attribution.left_out`; in nats, of any network, with masks or without.
            "combined": left-out and localized; the closest. None: the best that `train` allows: "combined" for data
            ("pooled" with measure="margin" or `localized`), "localized" for ids with `localized`, "raw" for ids alone.
        predictions: of "left-out" and "combined": what the network said of the training examples and of the targets,
            averaged over its training: a pair of `turnover.Predictions`, or of tensors, probabilities [n, classes] in
            the order of the data; of several networks a list of pairs, or one pair for all. They count as much as the
            neighbours, and bring the scores closer to retraining where more than half of the units are kept, or no
            masks are; with one half next to nothing (docs/method.md).
        precision: of the matrix products.
        memory: bytes of scratch, beside masks and result; one row of few targets is the least.
        fused: compile the loss difference; by default where that pays.
        forward: ``forward(model, batch)`` gives the logits, where the network is called in a way of its own; see
            `turnover.read`.
        localized: inputs of the training examples, row for row those of `train`, or `Localized` with settings.
        batch_size: examples a forward pass, where data is read and is no loader with batches of its own.
        classes: names of the classes, where labels are strings; see `turnover.read`.

    Returns:
        float32 [train, target], on the CPU; rows in the order of the ids or of the data set. Positive: the training
        example helps.

    Raises:
        ValueError: an argument is out of range or shapes do not fit; the model has no turn-over dropout, or its forward
            pass reaches none of it; its output for a target is NaN or infinite; readings are another network's; the
            estimate needs what `train` does not tell.
        TypeError: inputs are no tensors, or ids or labels are not integers.
    """
    networks = networks_of(model)
    asked = Asked(
        measure, estimate, precision, memory, fused, forward, localized, batch_size, classes, predictions=predictions
    )
    pairs = pairs_of(networks, train, targets, y, asked)
    count, width = len(pairs.train.ids), len(pairs.labels)
    out = torch.empty(count, width)
    grid, held = grid_of(pairs, width, memory)
    tiles = Tiles(pairs, grid, spans(width, grid[1]), memory=held)
    with full_precision():
        for tile in tiles.of(slice(0, count)):
            mean = tile.scores[0] if len(tile.scores) == 1 else torch.stack(tile.scores).mean(0)
            out[tile.rows, tile.columns] = mean.cpu()
    return out
