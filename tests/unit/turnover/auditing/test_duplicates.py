"""What is there twice, and what only looks alike."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from turnover.auditing.duplicates import duplicates


def photographs(count: int, size: int = 28, seed: int = 0) -> torch.Tensor:
    """Smooth random pictures, uint8 [n, 1, size, size]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 1, 7, 7, generator=generator)
    large = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1)
    return (255 * large).round().byte()


def pairs(images: torch.Tensor) -> list[tuple[int, int, str]]:
    return list(duplicates(images)[["first", "second", "kind"]].itertuples(index=False, name=None))


def test_unlike_pictures_are_no_duplicates() -> None:
    assert pairs(photographs(200)) == []


@settings(max_examples=20, deadline=None)
@given(down=st.integers(-2, 2), right=st.integers(-2, 2), contrast=st.floats(0.6, 1.0), noise=st.integers(0, 3))
def test_a_shifted_darkened_noisy_copy_is_found(down: int, right: int, contrast: float, noise: int) -> None:
    images = photographs(40)
    large = photographs(40, size=32)
    images[7] = large[7, :, 2:30, 2:30]
    copy = contrast * large[7, :, 2 + down : 30 + down, 2 + right : 30 + right].float()
    copy += noise * torch.randn(copy.shape, generator=torch.Generator().manual_seed(1))
    found = pairs(torch.cat([images, copy.clamp(0, 255).round().byte()[None]]))
    assert [pair[:2] for pair in found] == [(7, 40)]


def test_a_resized_copy_is_found() -> None:
    large = photographs(30, size=112)

    def small(picture: torch.Tensor, first: int) -> torch.Tensor:
        image = Image.fromarray(picture[0].numpy()).resize((first, first), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.asarray(image.resize((28, 28), Image.Resampling.BILINEAR)).copy())[None]

    images = torch.stack([*(small(picture, 112) for picture in large), small(large[3], 70)])
    assert pairs(images) == [(3, 30, "near")]


def test_many_of_one_are_paired_with_the_first_and_coloured_ones_count_too() -> None:
    images = photographs(10).repeat(1, 3, 1, 1)
    images[[4, 6, 9]] = images[2].clone()
    assert pairs(images) == [(2, 4, "exact"), (2, 6, "exact"), (2, 9, "exact")]


def test_blank_pictures_are_alike_only_where_they_are_the_same() -> None:
    blank = torch.stack([torch.full((1, 12, 12), value, dtype=torch.uint8) for value in (0, 90, 0, 255)])
    assert pairs(blank) == [(0, 2, "exact")]


def test_embeddings_that_are_close_beside_how_far_others_are() -> None:
    values = torch.randn(300, 16, generator=torch.Generator().manual_seed(0))
    values[50] = values[20] + 1e-4
    values[60] = values[10]
    assert pairs(values) == [(10, 60, "exact"), (20, 50, "near")]
