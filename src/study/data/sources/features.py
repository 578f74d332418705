"""The user's own embeddings, as the pictures of 8 bits that every stage takes: a pixel is a feature."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from turnover.collecting.embeddings import SUFFIXES, Embeddings, read_embeddings
from turnover.errors import DataError

SPAN = 4.0  # standard deviations to both sides of a feature's mean that 0 to 255 stand for
_MIDDLE, _STEPS = 128, 127
_BLOCK = 4096


def read_features(path: Path) -> Embeddings:
    """The embeddings in a file, npy with ``labels.npy`` beside, npz or parquet, as `turnover audit` reads them.

    Raises:
        DataError: the file does not hold embeddings with labels; the message says what is wrong.
        OSError: it cannot be read.
    """
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        raise DataError(f"{path} is no file of embeddings ({', '.join(SUFFIXES)})")
    return read_embeddings(path, None, {})


def as_pictures(features: npt.NDArray[np.float32], trained: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Features as grey pictures, uint8 [n, 1, height, width], a pixel a feature, row by row; what is left over is grey.

    Each feature is scaled by its mean and standard deviation over the training part: a step is .03 standard deviations,
    so that rounding adds a ten-thousandth to the variance, and what is beyond 4 is taken for 4.

    Args:
        features: [n, d].
        trained: which examples are of the training part, bool [n].
    """
    count, width = features.shape
    mean = features[trained].mean(0, dtype=np.float64)
    deviation = features[trained].std(0, dtype=np.float64)
    scale = np.where(deviation > 1e-8 * (1.0 + np.abs(mean)), _STEPS / SPAN / np.maximum(deviation, 1e-300), 0.0)
    across = math.ceil(math.sqrt(width))
    down = math.ceil(width / across)
    pictures = np.full((count, down * across), _MIDDLE, np.uint8)
    for start in range(0, count, _BLOCK):
        rows = slice(start, start + _BLOCK)
        levels = np.rint((features[rows] - mean) * scale).clip(-_STEPS, _STEPS)
        pictures[rows, :width] = (levels + _MIDDLE).astype(np.uint8)
    return pictures.reshape(count, 1, down, across)
