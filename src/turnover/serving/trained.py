"""What a new image is asked of: networks, and the training examples that they learned from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch import Tensor, nn

from turnover.errors import UserError


@dataclass(frozen=True, eq=False)
class Trained:
    """Networks with turn-over dropout, and their training examples.

    Args:
        networks: each takes uint8 images [n, channels, height, width] and gives logits [n, classes].
        classes: their names.
        examples: a row a training example: ``id`` as in the explorer, ``given`` (label). If known ``name`` and
            ``original`` (label; -1: not known).
        images: uint8 [train, channels, height, width], row for row those of `examples`.
        influence: of all training examples on images: ``influence(x, y)`` with images [target, ...] and labels [target]
            gives scores [network, train, target].

    Raises:
        UserError: there are not as many images as examples.
    """

    networks: Sequence[nn.Module]
    classes: Sequence[str]
    examples: pd.DataFrame
    images: npt.NDArray[np.uint8]
    influence: Callable[[Tensor, Tensor], Tensor]

    def __post_init__(self) -> None:
        if len(self.images) != len(self.examples):
            raise UserError(f"there are {len(self.examples)} training examples but {len(self.images)} images of them")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image: channels, height, width."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width
