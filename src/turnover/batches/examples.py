"""Examples in memory, and batches of them without any per-example Python."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from turnover.errors import UserError


@dataclass(frozen=True)
class Examples:
    """Images as they are stored, on the device that trains on them.

    Args:
        images: [n, channels, height, width], uint8 (or float, in 0..255).
        labels: int64 [n] (`train` converts other integers).
        ids: int64 [n]; the id decides an example's mask, whatever its place here. `train` wants each once.

    Raises:
        UserError: lengths differ, or there is no example.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor

    def __post_init__(self) -> None:
        sizes = {"images": len(self.images), "labels": len(self.labels), "ids": len(self.ids)}
        if len(set(sizes.values())) != 1 or not len(self.ids):
            raise UserError(f"images, labels and ids must have one row an example, at least one; got {sizes}")

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Tensor | slice) -> Examples:
        if isinstance(index, Tensor) and index.dtype == torch.int64:
            # Copies whole images, where indexing goes element by element.
            return Examples(*(part.index_select(0, index) for part in (self.images, self.labels, self.ids)))
        return Examples(self.images[index], self.labels[index], self.ids[index])

    def to(self, device: torch.device) -> Examples:
        return Examples(self.images.to(device), self.labels.to(device), self.ids.to(device))

    def in_order(self, batch_size: int) -> Iterator[Examples]:
        """All examples once, in order; the last batch may be smaller."""
        for start in range(0, len(self), batch_size):
            yield self[start : start + batch_size]

    def shuffled(self, batch_size: int, seed: int, epoch: int, skip: int = 0) -> Iterator[Examples]:
        """All examples once, in the order that (seed, epoch) decides; the last batch may be smaller.

        The order depends on nothing else, so a resumed training goes on where it stopped: after `skip` batches.
        """
        generator = torch.Generator().manual_seed(epoch_seed(seed, epoch))
        order = torch.randperm(len(self), generator=generator).to(self.ids.device)
        for start in range(skip * batch_size, len(self), batch_size):
            yield self[order[start : start + batch_size]]


def epoch_seed(seed: int, epoch: int) -> int:
    """A seed of its own for every epoch of every run."""
    return (seed * 1_000_003 + epoch * 7_919 + 12_345) % (1 << 63)


def step_seed(seed: int, epoch: int, step: int, process: int) -> int:
    """A seed of its own for every step, and every process that takes a part of it."""
    name = f"{seed} {epoch} {step} {process}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=7).digest(), "big")
