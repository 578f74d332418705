"""Flip, crop and translate whole batches of stored images; what happens to an example depends on it alone.

Every draw is a pure function of (seed, epoch, id): the same in every batch, on every device, on every rank, and
in a training that was interrupted. Nothing is drawn from a random number generator.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from turnover.errors import UserError
from turnover.masking.masks import _mix, _mix_scalar, _signed, halves


@dataclass(frozen=True)
class Augmentation:
    """What is done to training images, in this order. The default does nothing.

    Args:
        flip: mirror left and right, every other time.
        crop: pixels. Surround the image with that many reflected ones, and cut its size out again at any place.
        translate: pixels. Shift by up to that many in each direction; black moves in.

    Raises:
        UserError: a number of pixels is negative.
    """

    flip: bool = False
    crop: int = 0
    translate: int = 0

    def __post_init__(self) -> None:
        for name in ("crop", "translate"):
            if getattr(self, name) < 0:
                raise UserError(f"training.augmentation.{name}={getattr(self, name)}: it must be 0 or more pixels")

    def __call__(self, images: Tensor, ids: Tensor, seed: int, epoch: int) -> Tensor:
        """Augmented copies of `images` [n, channels, height, width], of any dtype; row r is example ``ids[r]``.

        Raises:
            UserError: the images are too small for `crop`.
        """
        if self.flip:
            mirrored = draw(ids, 2, seed, epoch, 0).bool().view(-1, 1, 1, 1)
            images = torch.where(mirrored, images.flip(3), images)
        if self.crop:
            places = [draw(ids, 2 * self.crop + 1, seed, epoch, number) for number in (1, 2)]
            images = _windows(_reflected(images, self.crop), images.shape, *places)
        if self.translate:
            places = [draw(ids, 2 * self.translate + 1, seed, epoch, number) for number in (3, 4)]
            images = _windows(F.pad(images, (self.translate,) * 4), images.shape, *places)
        return images


def draw(ids: Tensor, below: int, seed: int, epoch: int, number: int) -> Tensor:
    """A random integer in [0, `below`) for every id, int64 [n]; `number` tells the draws of an epoch apart."""
    key = 0xB7E15162
    for part in (seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF, epoch, number):
        key = _mix_scalar(key ^ part) ^ 0x9E3779B9
    low, high = halves(ids)
    return (_mix(_mix(low ^ _signed(key)) ^ high).long() & 0x7FFFFFFF) % below


def _reflected(images: Tensor, margin: int) -> Tensor:
    """`images` with `margin` reflected pixels on each side (`F.pad` does not reflect uint8)."""
    for dim in (2, 3):
        size = images.shape[dim]
        if margin >= size:
            raise UserError(f"training.augmentation.crop={margin}: images of {size} pixels allow at most {size - 1}")
        place = torch.arange(-margin, size + margin, device=images.device).abs()
        images = images.index_select(dim, torch.where(place < size, place, 2 * (size - 1) - place))
    return images


def _windows(padded: Tensor, shape: torch.Size, top: Tensor, left: Tensor) -> Tensor:
    """The window of size `shape` of each padded image whose corner is at (`top`, `left`)."""
    views = padded.unfold(2, shape[2], 1).unfold(3, shape[3], 1)  # every window, without a copy
    return views[torch.arange(len(padded), device=padded.device), :, top, left]
