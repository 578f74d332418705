"""Scores of training examples from what a training does anyhow. Higher is always harder, more memorized, more suspect.

All but EL2N take one row an epoch, after that epoch, the untrained network left out: loss [epochs, n] in nats, margin
[epochs, n] or correct, bool [epochs, n]. All return float64 [n], from float64.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def cumulative_loss(loss: Floats) -> Floats:
    """Cumulative sample loss (CSL): ``sum over epochs e of L_e(i)``.

    Ravikumar, Soufleri, Roy (2025, "Towards Memorization Estimation: Fast, Formal and Free",
    openreview.net/forum?id=KZlQEoEtiu).
    """
    return np.asarray(loss.sum(0))


def area_under_margin(margin: Floats) -> Floats:
    """Minus the area under the margin (AUM): ``-mean over epochs e of (z_y - max of the other logits)``.

    Pleiss, Zhang, Elenberg, Weinberger (2020, arXiv 2001.10528). Theirs is low for wrong labels; the sign is turned.
    """
    return np.asarray(-margin.mean(0))


def forgetting_events(correct: npt.NDArray[np.bool_]) -> Floats:
    """How often an example that was right turned wrong at the next epoch; the number of epochs if it never was right.

    Toneva et al. (2019, arXiv 1812.05159), who count an example that was never learned as forgotten infinitely often.
    """
    events = (correct[:-1] & ~correct[1:]).sum(0)
    return np.where(correct.any(0), events, len(correct)).astype(np.float64)


def el2n(logits: Floats, labels: npt.NDArray[np.int64]) -> Floats:
    """Length of the error vector (EL2N): ``|softmax(z) - onehot(y)|``, at one epoch early in training.

    Paul, Ganguli, Dziugaite (2021, arXiv 2107.07075), who average it over several networks.

    Args:
        logits: [n, classes].
        labels: [n].
    """
    error = np.exp(logits - logits.max(1, keepdims=True))
    error /= error.sum(1, keepdims=True)
    error[np.arange(len(labels)), labels] -= 1.0
    return np.asarray(np.linalg.norm(error, axis=1))
