"""What the examples around a training example say of it: how alone it stands, and whether they bear out its label."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor, nn

from turnover.reading.checks import Inputs, check_inputs, check_labels
from turnover.reading.features import RIDGE, FeatureBlocks, Features, spectrum
from turnover.reading.passes import DEFAULT_MEMORY

# Fixed; agreement with retraining and mislabel detection are flat around them, see docs/method.md.
LEVERAGE_RIDGE = 1e-5
SHARPNESS = 4.0
_DIRECTIONS = 256
_ROWS = 512


def neighbourhood(
    model: nn.Module,
    x_train: Inputs,
    y_train: Tensor,
    *,
    features: Features = None,
    ridge: float = RIDGE,
    sharpness: float = SHARPNESS,
    leverage_ridge: float = LEVERAGE_RIDGE,
    memory: int = DEFAULT_MEMORY,
) -> pd.DataFrame:
    """Leverage and support of every training example, from the features of the full network.

    Leverage is the diagonal of ``H (H'H + ridge * trace(H'H) I)^-1 H'`` with H the centred features: in ridge
    regression, by how much the fit at an example moves when its own label does (Cook & Weisberg 1982).

    Support is what the others say of the label: the share of examples with the same given label, each weighted by
    ``max(0, cos)^sharpness`` (see `turnover.localize`), the example itself left out. A wrong label has little.

    Args:
        model: any trained classifier.
        x_train: inputs of all training examples [train, ...].
        y_train: given labels [train], integers.
        features: see `turnover.reading.features.features_of`.
        ridge: of the similarity, relative to the total variance of the features.
        sharpness: exponent of the similarity.
        leverage_ridge: of the leverage, relative to the total variance of the features.
        memory: bytes of scratch, beside 256 numbers an example. Half are for features: where they do not fit, the
            examples go through the network three more times.

    Returns:
        One row an example: ``leverage`` in [0, 1], near 0 among many like it, near 1 where it stands alone; ``support``
        in [0, 1], 0 where nothing is like it. float64.

    Raises:
        ValueError: lengths differ, a setting is not positive, or the model has no features to compare.
        TypeError: `x_train` is no tensor, or labels are not an integer tensor.
    """
    check_inputs(x_train, "x_train")
    y_train = check_labels(y_train, name="y_train")
    if len(x_train) != len(y_train):
        raise ValueError(f"{len(x_train)} training examples but {len(y_train)} labels: pass one for each")
    for name, value in (("ridge", ridge), ("sharpness", sharpness), ("leverage_ridge", leverage_ridge)):
        if not 0.0 < value < float("inf"):
            raise ValueError(f"{name}={value}: it must be a positive number")
    blocks = FeatureBlocks(model, x_train, features, memory // 2)
    directions = spectrum(blocks)
    levers, units = [], []
    for block in blocks:
        parts = torch.split(block, _ROWS)
        levers += [directions.whitened(part, leverage_ridge).square().sum(1) for part in parts]
        units.append(torch.nn.functional.normalize(directions.whitened(block, ridge, _DIRECTIONS), dim=1))
    leverage, unit = torch.cat(levers), torch.cat(units)
    del blocks, units
    labels = y_train.to(unit.device)
    support = torch.empty(len(unit), device=unit.device)
    rows = max(1, min(_ROWS, memory // 2 // (12 * len(unit))))  # weights, and those of the same label
    for top in range(0, len(unit), rows):
        weight = (unit[top : top + rows] @ unit.T).clamp_(0.0, 1.0).pow_(sharpness)
        weight.diagonal(top).zero_()
        same = labels[top : top + rows].unsqueeze(1) == labels
        total = weight.sum(1).clamp(min=torch.finfo(torch.float32).tiny)
        support[top : top + rows] = (weight * same).sum(1) / total
    return pd.DataFrame({"leverage": leverage.cpu().double().numpy(), "support": support.cpu().double().numpy()})
