"""Scores of training examples from what a training does anyhow. Higher is always harder, more memorized, more suspect.

All take one row an epoch, after that epoch, the untrained network left out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def final_loss(loss: npt.ArrayLike) -> Floats:
    """Training loss at the end: ``L_E(i)``.

    Args:
        loss: [epochs, n] in nats.

    Returns:
        [n].
    """
    return np.asarray(_table(loss, "loss")[-1])


def cumulative_loss(loss: npt.ArrayLike) -> Floats:
    """Cumulative sample loss (CSL): ``sum over epochs e of L_e(i)``.

    Ravikumar, Soufleri, Roy (2025, "Towards Memorization Estimation: Fast, Formal and Free",
    openreview.net/forum?id=KZlQEoEtiu).

    Args:
        loss: [epochs, n] in nats.

    Returns:
        [n].
    """
    return np.asarray(_table(loss, "loss").sum(0))


def area_under_margin(margin: npt.ArrayLike) -> Floats:
    """Minus the area under the margin (AUM): ``-mean over epochs e of (z_y - max of the other logits)``.

    Pleiss, Zhang, Elenberg, Weinberger (2020, arXiv 2001.10528). Theirs is low for wrong labels; the sign is turned.

    Args:
        margin: [epochs, n].

    Returns:
        [n].
    """
    return np.asarray(-_table(margin, "margin").mean(0))


def forgetting_events(correct: npt.ArrayLike) -> Floats:
    """How often an example that was right turned wrong at the next epoch; the number of epochs if it never was right.

    Toneva et al. (2019, arXiv 1812.05159), who count an example that was never learned as forgotten infinitely often.

    Args:
        correct: bool [epochs, n].

    Returns:
        [n].
    """
    right = _table(correct, "correct").astype(bool)
    events = (right[:-1] & ~right[1:]).sum(0)
    return np.where(right.any(0), events, len(right)).astype(np.float64)


def el2n(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Floats:
    """Length of the error vector (EL2N): ``|softmax(z) - onehot(y)|``, at one epoch early in training.

    Paul, Ganguli, Dziugaite (2021, arXiv 2107.07075), who average it over several networks.

    Args:
        logits: [n, classes].
        labels: integers [n].

    Returns:
        [n], from 0 to the square root of 2.
    """
    scores, given = _table(logits, "logits"), np.asarray(labels)
    if given.shape != scores.shape[:1]:
        raise ValueError(f"logits are {scores.shape}, but labels {given.shape}: there must be one label a row")
    error = np.exp(scores - scores.max(1, keepdims=True))
    error /= error.sum(1, keepdims=True)
    error[np.arange(len(given)), given] -= 1.0
    return np.asarray(np.linalg.norm(error, axis=1))


def _table(values: npt.ArrayLike, name: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or not array.size:
        raise ValueError(f"{name} must be a matrix with at least one row and column, got shape {array.shape}")
    return array
