"""Datamodels: what a target gets from a network, as a linear function of which examples the network was trained on.

Ilyas, Park, Engstrom, Leclerc, Madry (2022, arXiv 2202.00622). Their penalty is the absolute size of the weights; here
it is the squared size, which costs a second for all targets together where the other takes minutes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import RidgeCV

# From next to nothing to where the weights are differences of means, but for a factor.
STRENGTHS = tuple(float(strength) for strength in np.logspace(-2, 5, 15))


def datamodels(inside: npt.NDArray[np.bool_], outputs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Ridge regression of every target's output on the membership of the training examples.

    The strength of the penalty is the one of `STRENGTHS` that foretells left-out networks best, all targets together.

    Args:
        inside: bool [networks, train], which examples a network was trained on.
        outputs: [networks, target], larger where the network does better.

    Returns:
        The weights, float64 [train, target]: what the output gains when the example is trained on.
    """
    found = RidgeCV(alphas=STRENGTHS).fit(inside.astype(np.float64), outputs)
    return np.asarray(found.coef_.T, dtype=np.float64)
