"""The sharper estimates of one turn-over run, from the features of its last layer.

The features are what enters the last linear layer of the full network, less their mean over the training examples, in
the metric of their inverse covariance: ``w(i, t) = h_i' P h_t / sqrt(h_i' P h_i * h_t' P h_t)``.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

RIDGE, DIRECTIONS, SHARPNESS = 3.5e-4, 256, 2.0
LEVERAGE_RIDGE = 1e-5


def similarity(features: Tensor, of_targets: Tensor) -> Tensor:
    """``max(0, w)^2`` of every training example and target, float32 [train, target]."""
    mean = features.mean(0)
    values, vectors = _spectrum(features)
    kept = vectors[:, -DIRECTIONS:] / (values[-DIRECTIONS:] + RIDGE * values.sum()).sqrt()
    whitened = [torch.nn.functional.normalize((part - mean) @ kept.float()) for part in (features, of_targets)]
    return (whitened[0] @ whitened[1].T).clamp(min=0) ** SHARPNESS


def leverage(features: Tensor) -> np.ndarray:
    """``h_i' (C + ridge * trace(C))^-1 h_i`` of every training example, float64 [train]."""
    values, vectors = _spectrum(features)
    turned = (features - features.mean(0)).double() @ vectors
    return np.asarray((turned**2 / (values + LEVERAGE_RIDGE * values.sum())).sum(1).numpy())


def sharpened(exposed: np.ndarray, flipped: np.ndarray, full: np.ndarray, levers: np.ndarray) -> np.ndarray:
    """Memorization: leverage times the mean over epochs of ``p_exposed * (1 - (p_full + p_flipped) / 2)``.

    Args:
        exposed, flipped, full: probabilities of the given label [epochs, n], the untrained network left out.
        levers: see `leverage` [n].
    """
    return np.asarray(levers * (exposed * (1.0 - (full + flipped) / 2.0)).mean(0))


def _spectrum(features: Tensor) -> tuple[Tensor, Tensor]:
    centred = (features - features.mean(0)).double()
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(features))
    return values.clamp(min=0), vectors
