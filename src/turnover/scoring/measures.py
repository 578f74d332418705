"""What memorization is made of: losses of the networks, and probabilities of the given label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor


def measures(losses: Mapping[str, Any]) -> dict[str, Any]:
    """The measures ``loss`` and ``probability`` [n] of `memorization`, as precise as the losses.

    Args:
        losses: cross-entropy in nats [n] by network, exposed and flipped at least: tensors, arrays or columns.
    """
    chances = probabilities(losses)
    return {"loss": losses["flipped"] - losses["exposed"], "probability": chances["exposed"] - chances["flipped"]}


def probabilities(losses: Mapping[str, Any]) -> dict[str, Any]:
    """Probability of the given label by network, from its loss in nats."""
    return {of: (-loss).exp() if isinstance(loss, Tensor) else np.exp(-loss) for of, loss in losses.items()}
