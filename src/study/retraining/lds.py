"""The linear datamodelling score: does the sum of attributions foretell what a network trained on a subset says?

For every target t, Spearman's correlation over subsets S between the real output of the network trained on S and
``sum of scores[i, t] over i in S`` (Ilyas et al. 2022, arXiv 2202.00622; Park et al. 2023, arXiv 2303.14186). The score
of a method is the mean over targets. Each network has noise of its own (weights, order), which no attribution can
foretell, so even a perfect one stays well below 1: compare methods, not with 1.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata
from torch import Tensor

Floats = npt.NDArray[np.float64]


def lds(scores: Tensor | npt.ArrayLike, inside: Tensor | npt.ArrayLike, outputs: Tensor | npt.ArrayLike) -> Floats:
    """Spearman's correlation between predicted and real outputs over the subsets, for every target.

    Args:
        scores: influence [train, target], positive where the training example helps.
        inside: bool [networks, train], which examples each network was trained on.
        outputs: [networks, target], larger where the network does better: minus the loss, or the margin.

    Returns:
        float64 [target], in -1..1. Where the predictions or the outputs of a target are all the same there is no order
        to foretell, and its score is 0. For scores of pure noise the mean over T targets is 0 with a standard error of
        about ``sqrt((1 / (networks - 1) + 1 / (train - 1)) / T)``, the second part because prediction and output are
        both sums over the same few examples.

    Raises:
        ValueError: shapes do not fit, there are fewer than 3 networks, or a value is not finite.
    """
    attribution, members, real = _array(scores), _array(inside), _array(outputs)
    if attribution.ndim != 2 or members.ndim != 2 or real.ndim != 2:
        raise ValueError(
            "scores, inside and outputs must be [train, target], [networks, train] and [networks, target]; "
            f"got {attribution.shape}, {members.shape} and {real.shape}"
        )
    if members.shape != (len(real), len(attribution)) or real.shape[1] != attribution.shape[1]:
        raise ValueError(
            f"scores {attribution.shape}, inside {members.shape} and outputs {real.shape} do not fit together: "
            "they must be [train, target], [networks, train] and [networks, target]"
        )
    if len(real) < 3:
        raise ValueError(f"{len(real)} networks give no rank correlation: at least 3 are needed")
    for name, array in (("scores", attribution), ("outputs", real)):
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds {int((~np.isfinite(array)).sum())} values that are not finite")
    predicted = members @ attribution
    # Sums of the same numbers in another order differ in the last bits: such a difference is no rank.
    scale = np.abs(predicted).max(0) + np.finfo(np.float64).tiny
    return correlations(ranks(np.round(predicted / scale, 12)), ranks(real))


def _array(values: Tensor | npt.ArrayLike) -> Floats:
    return np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, dtype=np.float64)


def ranks(values: Floats) -> Floats:
    """Ranks [networks, target] down every column, ties shared, less their mean."""
    ranks = rankdata(values, axis=0)
    return np.asarray(ranks - (len(values) + 1) / 2.0, dtype=np.float64)


def correlations(a: Floats, b: Floats) -> Floats:
    """Correlation of the centred columns of two matrices; 0 where a column does not vary."""
    product = (a * b).sum(0)
    norm = np.sqrt((a * a).sum(0) * (b * b).sum(0))
    return np.asarray(np.divide(product, norm, out=np.zeros_like(product), where=norm > 0))
