"""Influence of training examples on targets: every pair."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from turnover.attribution.any_network import GeneralScorer
from turnover.attribution.chain import read_chain
from turnover.attribution.fused import pays
from turnover.attribution.head import HeadScorer
from turnover.attribution.localization import Localized, similarity
from turnover.attribution.scorer import DTYPES, Measure, Precision, Scorer, device_of, evaluating
from turnover.attribution.slim import SlimScorer
from turnover.attribution.store import Inputs
from turnover.errors import UserError
from turnover.masking.layer import masked_layers, subnetwork
from turnover.reading.checks import check_example_ids, check_inputs, check_labels
from turnover.reading.outputs import features_and_logits, masked_head, refuse_unreached

DEFAULT_MEMORY = 1 << 30
# Below so many targets, cutting a network out for every training example costs more than it saves.
_WORTH_SLIMMING = 32


def influence(
    model: nn.Module,
    train_ids: Tensor,
    x: Tensor,
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
        train_ids: ids [train] of training examples, in any order, each once.
        x: inputs of the targets [target, ...], as the model takes them.
        y: labels of the targets, integers [target] of any type.
        measure: "loss": L(~m(i), t) - L(m(i), t) in nats. "margin": margin(m(i), t) - margin(~m(i), t).
        precision: of the matrix products.
        memory: bytes of scratch, beside the result.
        fused: compile the loss difference; by default where that pays.
        localized: inputs of the training examples [train, ...], row for row those of `train_ids`: gives what
            `turnover.localize` makes of the scores, far closer to retraining. None: the raw scores.

    Returns:
        float32 [train, target], on the CPU. Positive: the training example helps.

    Raises:
        ValueError: an argument is out of range, an id is repeated or shapes do not fit; the model has no turn-over
            dropout, or its forward pass reaches none of it; its output for a target is NaN or infinite.
        TypeError: inputs are no tensors, or ids or labels are not integer tensors.
    """
    scorer = make_scorer(model, train_ids, x, y, measure, precision, fused)
    y = y.long()
    out = torch.empty(len(train_ids), len(y))
    near = None if localized is None else similarity(model, len(train_ids), localized)
    height, width = scorer.block(len(y), memory)
    for left in range(0, len(y), width):
        columns = slice(left, min(left + width, len(y)))
        inputs = x[columns].to(device_of(model))
        prepared = scorer.prepare(inputs, y[columns].to(device_of(model)))
        targets = None if near is None else near.targets(inputs)
        for top in range(0, len(train_ids), height):
            rows = slice(top, min(top + height, len(train_ids)))
            tile = scorer.tile(rows, prepared)
            if top == 0:
                refuse_not_finite(tile[0], left)
            if near is not None and targets is not None:
                tile *= near.factor(rows, targets)
            out[rows, columns] = tile.cpu()
    return out


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
    check_arguments(train_ids, x, y, measure, precision)
    if not masked_layers(model):
        raise ValueError("the model has no turn-over dropout: call insert(model, ...) first")
    if fused is None:
        fused = pays(len(train_ids) * len(y))
    device = device_of(model)
    masked, features = masked_head(model), None
    with evaluating(model):
        if masked is not None:
            features, logits = features_and_logits(model, masked.linear, x[:1].to(device))
        if features is None:
            with subnetwork(model, train_ids[:1]):
                logits = model(x[:1].to(device))
            refuse_unreached(model)
    classes = logits.shape[-1]
    y = check_labels(y, classes, "y")
    if masked is not None and features is not None:
        return HeadScorer(model, masked, train_ids, measure, precision, fused)
    general = GeneralScorer(model, train_ids, classes, measure, precision)
    if len(y) < _WORTH_SLIMMING or not _is_chain(model):
        return general
    slim = SlimScorer(model, train_ids, classes, measure, precision)
    return slim if _agree(slim, general, x[:2].to(device), y[:2].to(device)) else general


def _is_chain(model: nn.Module) -> bool:
    return read_chain(getattr(model, "_orig_mod", model)) is not None


def _agree(one: Scorer, other: Scorer, x: Tensor, y: Tensor) -> bool:
    """Whether two ways come to the same scores: a module may override its forward, and then does not do as it says."""
    row = slice(0, 1)
    found, expected = (scorer.tile(row, scorer.prepare(x, y)) for scorer in (one, other))
    return bool(torch.allclose(found, expected, rtol=0.1, atol=0.1 * float(expected.abs().max()) + 1e-4))


def check_arguments(train_ids: Tensor, x: Inputs, y: Tensor, measure: str, precision: str) -> None:
    """Raise what `influence` documents."""
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


def refuse_not_finite(scores: Tensor, first: int) -> None:
    """Raise where scores are NaN or infinite.

    A target whose output is not finite spoils every score of it, as exposed and flipped units together are all units:
    so the scores of a single training example tell, at no cost.

    Args:
        scores: of one training example [target].
        first: the place of the first of these targets in `x`.

    Raises:
        UserError: names the first such target.
    """
    wrong = ~scores.isfinite()
    if bool(wrong.any()):
        raise UserError(
            f"the network's output for target {first + int(wrong.nonzero()[0])} is NaN or infinite: did the training "
            "diverge, or does x hold NaN or huge values there?"
        )
