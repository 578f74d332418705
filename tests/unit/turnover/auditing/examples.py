"""Labelled data in which some labels are wrong, and it is known which."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

CLASSES = ("bar", "box", "dot")
SHAPES = {"bar": (slice(2, 14), slice(6, 9)), "box": (slice(3, 13), slice(3, 13)), "dot": (slice(6, 10), slice(6, 10))}


def drawing(kind: str, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """A shape on noise, uint8 [16, 16], not always at the same place."""
    image = rng.integers(0, 60, (16, 16))
    image[SHAPES[kind]] += 150
    return np.roll(image, tuple(rng.integers(-2, 3, 2)), (0, 1)).astype(np.uint8)


def pictures(root: Path, count: int = 90, wrong: int = 6, seed: int = 0) -> dict[str, str]:
    """Write `count` pictures into class folders; the first `wrong` lie in a wrong one: name -> the right class."""
    rng = np.random.default_rng(seed)
    planted = {}
    for number in range(count):
        kind = CLASSES[number % 3]
        given = CLASSES[(number + 1 + number % 2) % 3] if number < wrong else kind
        path = root / given / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawing(kind, rng)).save(path)
        if number < wrong:
            planted[f"{given}/{number:03d}.png"] = kind
    return planted


def embeddings(
    count: int = 200, wrong: int = 10, width: int = 12, seed: int = 0
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Features [n, d] of four clusters, given labels and right labels; the first `wrong` differ."""
    rng = np.random.default_rng(seed)
    right = rng.integers(0, 4, count)
    features = (2.0 * rng.normal(size=(4, width))[right] + rng.normal(size=(count, width))).astype(np.float32)
    given = right.copy()
    given[:wrong] = (right[:wrong] + 1 + rng.integers(0, 3, wrong)) % 4
    return features, given, right
