"""What the examples around a training example say of it: how alone it stands, and whether they bear out its label."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from turnover.batches.passes import DEFAULT_MEMORY, device_of, full_precision
from turnover.batches.tap import Features
from turnover.errors import UserError
from turnover.masking.calling import Forward
from turnover.reading.features import LARGEST, RIDGE, Spectrum, spectrum
from turnover.reading.one_pass import read
from turnover.reading.options import check_options
from turnover.reading.readings import Readings, why_no_features
from turnover.reading.storage import Columns, Rows
from turnover.reading.votes import SHARPNESS, likeness, same_among, voters

# Fixed; agreement with retraining and mislabel detection are flat around them, see docs/method.md.
LEVERAGE_RIDGE = 1e-5
_ONE_HOT = 256  # classes of which a product with a matrix of ones and zeros is faster than a comparison
_DIRECTIONS = 256
_ROWS = 512


def neighbourhood(
    model: nn.Module,
    x: Any,
    y: Any = None,
    ids: Any = None,
    *,
    features: Features = None,
    ridge: float = RIDGE,
    sharpness: float = SHARPNESS,
    leverage_ridge: float = LEVERAGE_RIDGE,
    references: int | None = None,
    batch_size: int = 256,
    classes: Sequence[str] | None = None,
    forward: Forward | None = None,
    memory: int = DEFAULT_MEMORY,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Leverage and support of every training example, from the features of the full network.

    Leverage is the diagonal of ``H (H'H + ridge * trace(H'H) I)^-1 H'`` with H the centred features: in ridge
    regression, by how much the fit at an example moves when its own label does (Cook & Weisberg 1982).

    Support is what the others say of the label: the share of examples with the same given label, each weighted by
    ``max(0, cos)^sharpness`` (see `turnover.localize`), the example itself left out. A wrong label has little.

    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> near = neighbourhood(model, torch.randn(30, 4), torch.arange(30) % 2)
    >>> bool(near["leverage"].between(0, 1).all() and near["support"].between(0, 1).all())
    True

    Args:
        model: any trained classifier, with turn-over dropout or without.
        x, y, ids: all training examples, as for `turnover.read`; or `Readings` of them.
        features: None: what enters the layer that gives the logits. A module's name: what comes out of it. A function
            from the inputs of a batch to features [batch, ...]. (Of readings, those that were read.)
        ridge: of the similarity, relative to the total variance of the features.
        sharpness: exponent of the similarity.
        leverage_ridge: of the leverage, relative to the total variance of the features.
        references: how many of the examples, chosen at random (always the same), tell the support of all. None: all of
            up to 65,536 examples, and of more so many that the time stays what it is for these.
        batch_size, classes, forward, progress: as for `turnover.read`.
        memory: bytes of scratch, beside 256 numbers an example. Half are for features: where they do not fit, they go
            to a temporary file.

    Returns:
        One row an example, in the order of the data set: ``id`` (unless inputs came without ids), ``leverage`` in
        [0, 1], near 0 among many like it, near 1 where it stands alone; ``support`` in [0, 1], 0 where nothing is like
        it; ``loss_full``, the loss of the full network, by which `turnover.sharpen` knows the rows. float64.

    Raises:
        ValueError, TypeError: as for `turnover.read`; a setting is not positive, or the model has no features to
            compare.
    """
    check_options(
        features=features, ridge=ridge, sharpness=sharpness, leverage_ridge=leverage_ridge, references=references,
        batch_size=batch_size, classes=classes, forward=forward, memory=memory, progress=progress,
    )  # fmt: skip
    if isinstance(x, Readings):
        found = x.of(model)
    else:
        found = read(
            model, x, y, ids, features=features, masked=False, batch_size=batch_size, classes=classes,
            forward=forward, memory=memory // 2, progress=progress,
        )  # fmt: skip
    if found.features is None:
        raise UserError(why_no_features(found, "the examples", given=isinstance(x, Readings)))
    columns = around(
        found.features, found.labels, ridge=ridge, sharpness=sharpness, leverage_ridge=leverage_ridge,
        references=references, memory=memory // 2, device=device_of(model),
    )  # fmt: skip
    named = {} if y is not None and ids is None else {"id": found.names}
    return pd.DataFrame({**named, **columns, "loss_full": found.values["loss_full"].double().numpy()})


class Surroundings(NamedTuple):
    """Where examples stand among each other, on the device that was asked for."""

    directions: Tensor  # float32 [n, at most 256], rows of length 1: their products are the likenesses
    leverage: Tensor  # float32 [n]


@full_precision()
def surroundings(
    features: Rows | Columns,
    *,
    ridge: float = RIDGE,
    leverage_ridge: float = LEVERAGE_RIDGE,
    device: torch.device | str = "cpu",
) -> Surroundings:
    """Directions and leverage of examples, from features [n, width]; see `neighbourhood`.

    Raises:
        ValueError: features are not finite, or too wide to compare.
    """
    if features.width > LARGEST:
        raise UserError(
            f"features of {features.width} numbers are too wide to compare (at most {LARGEST}): name a narrower layer "
            "in `features`"
        )
    found = Spectrum(*(part.to(device) for part in spectrum(features)))
    leverage = torch.empty(len(features), device=device)
    unit = torch.empty(len(features), min(_DIRECTIONS, features.width), device=device)
    start = 0
    for block in features:
        for part in torch.split(block.to(device), _ROWS):
            at = slice(start, start + len(part))
            leverage[at] = found.whitened(part, leverage_ridge).square().sum(1)
            unit[at] = torch.nn.functional.normalize(found.whitened(part, ridge, _DIRECTIONS), dim=1)
            start = at.stop
    return Surroundings(unit, leverage)


def likenesses(
    directions: Tensor, chosen: Tensor, sharpness: float = SHARPNESS, memory: int = DEFAULT_MEMORY
) -> Iterator[tuple[Tensor, Tensor]]:
    """How much those that are `chosen` say of every example, itself left out: places [some], weights [some, chosen].

    To be gone through without autocast (`turnover.batches.passes.full_precision`).

    Args:
        directions: from `surroundings`.
        chosen: places of those that vote, in order; see `turnover.reading.votes.voters`.
        sharpness: exponent of the likeness.
        memory: bytes for weights, and twice as much that is made of them.
    """
    reference = directions if len(chosen) == len(directions) else directions[chosen]
    rows = max(1, min(_ROWS, memory // (12 * len(reference))))
    for places in torch.split(torch.arange(len(directions), device=directions.device), rows):
        yield places, likeness(directions[places], reference, sharpness, same_among(places, chosen))


@full_precision()
def around(
    features: Rows | Columns,
    labels: Tensor,
    *,
    ridge: float = RIDGE,
    sharpness: float = SHARPNESS,
    leverage_ridge: float = LEVERAGE_RIDGE,
    references: int | None = None,
    memory: int = DEFAULT_MEMORY,
    device: torch.device | str = "cpu",
) -> dict[str, np.ndarray]:
    """The columns ``leverage`` and ``support`` of `neighbourhood`, float64 [n], from features [n, width].

    Raises:
        ValueError: features are not finite, or too wide to compare.
    """
    unit, leverage = surroundings(features, ridge=ridge, leverage_ridge=leverage_ridge, device=device)
    labels, chosen = labels.to(device), voters(len(unit), references).to(device)
    of_label, classes = labels[chosen], int(labels.max()) + 1
    one_hot = torch.nn.functional.one_hot(of_label, classes).float() if classes <= _ONE_HOT else None
    support = torch.empty(len(unit), device=device)
    for here, weight in likenesses(unit, chosen, sharpness, memory):
        if one_hot is not None:
            by_class = weight @ one_hot
            same, total = by_class.gather(1, labels[here].unsqueeze(1)).squeeze(1), by_class.sum(1)
        else:
            same, total = (weight * (labels[here].unsqueeze(1) == of_label)).sum(1), weight.sum(1)
        support[here] = same / total.clamp(min=torch.finfo(torch.float32).tiny)
    found = {"leverage": leverage, "support": support}
    return {name: values.cpu().double().numpy() for name, values in found.items()}
