"""Augmentation: what it may do to an image, and that only the example decides."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from turnover.errors import UserError
from turnover.training.augmentation import Augmentation, draw


def images(n: int = 400, dtype: torch.dtype = torch.uint8) -> Tensor:
    """Images in which no pixel's value repeats, and none is 0."""
    return (torch.arange(n * 2 * 5 * 6) % 251 + 1).view(n, 2, 5, 6).to(dtype)


def window(padded: Tensor, top: int, left: int) -> Tensor:
    return padded[:, top : top + 5, left : left + 6]


def reflected(image: Tensor, margin: int) -> Tensor:
    return torch.nn.functional.pad(image.float()[None], (margin,) * 4, mode="reflect")[0].to(image.dtype)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_flip_mirrors_about_half_of_the_images(dtype: torch.dtype) -> None:
    before = images(dtype=dtype)
    after = Augmentation(flip=True)(before, torch.arange(400), seed=0, epoch=1)
    flipped = torch.tensor([torch.equal(a, b.flip(2)) for a, b in zip(after, before, strict=True)])
    same = torch.tensor([torch.equal(a, b) for a, b in zip(after, before, strict=True)])
    assert bool((flipped ^ same).all())
    assert 150 < int(flipped.sum()) < 250  # 5 standard deviations


@pytest.mark.parametrize("kind", ["crop", "translate"])
def test_every_place_of_the_window_occurs_and_nothing_else_does(kind: str) -> None:
    """Against one padded image and one slice at a time."""
    before = images()
    augmentation = Augmentation(crop=2) if kind == "crop" else Augmentation(translate=2)
    after = augmentation(before, torch.arange(400), seed=0, epoch=1)
    assert after.dtype == before.dtype
    assert after.shape == before.shape
    places = set()
    for a, b in zip(after, before, strict=True):
        padded = reflected(b, 2) if kind == "crop" else torch.nn.functional.pad(b, (2,) * 4)
        found = [(top, left) for top in range(5) for left in range(5) if torch.equal(a, window(padded, top, left))]
        assert found
        places.add(found[0])
    assert len(places) == 25


def test_only_seed_epoch_and_id_decide() -> None:
    augmentation = Augmentation(flip=True, crop=1, translate=1)
    before, ids = images(), torch.arange(400) * 7 + (1 << 40)
    together = augmentation(before, ids, seed=3, epoch=2)
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    pieces = [augmentation(before[part], ids[part], seed=3, epoch=2) for part in order.split(17)]
    assert torch.equal(torch.cat(pieces), together[order])
    for changed in ({"seed": 4, "epoch": 2}, {"seed": 3, "epoch": 3}):
        assert not torch.equal(augmentation(before, ids, **changed), together)
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    augmentation(before, ids, seed=3, epoch=2)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_draws_are_uniform_and_independent() -> None:
    """Chi-squared over the 25 pairs of two draws of the same examples: its 99.99 % point with 24 degrees is 59."""
    ids = torch.arange(20_000)
    for seed, epoch in ((0, 1), (0, 2), (1, 1), ((1 << 40) + 1, 1)):
        pairs = draw(ids, 5, seed, epoch, 1) * 5 + draw(ids, 5, seed, epoch, 2)
        counts = torch.bincount(pairs, minlength=25).double()
        assert float(((counts - 800) ** 2 / 800).sum()) < 59
    across = draw(ids, 5, 0, 1, 1) * 5 + draw(ids, 5, 0, 2, 1)
    counts = torch.bincount(across, minlength=25).double()
    assert float(((counts - 800) ** 2 / 800).sum()) < 59


def test_nothing_by_default_and_nothing_impossible() -> None:
    before = images(3)
    assert Augmentation()(before, torch.arange(3), seed=0, epoch=1) is before
    with pytest.raises(UserError, match=r"training.augmentation.crop=5: images of 5 pixels allow at most 4"):
        Augmentation(crop=5)(before, torch.arange(3), seed=0, epoch=1)
    with pytest.raises(UserError, match=r"training.augmentation.translate=-1"):
        Augmentation(translate=-1)
