"""Many small images in few large ones, as addresses that hold them."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from turnover.errors import UserError

COLUMNS = 32  # images in a row of a sheet; and rows of a sheet, at most


class Encoding(NamedTuple):
    """How images are kept: shrunk to `side` pixels, exactly (`quality` None) or nearly."""

    side: int
    quality: int | None


# From the best to the smallest.
ENCODINGS = tuple(Encoding(side, quality) for side in (64, 48, 32) for quality in (None, 80, 50))


def sheets(images: npt.NDArray[np.uint8], encoding: Encoding) -> dict[str, Any]:
    """Sheets of `COLUMNS` x `COLUMNS` images, row by row.

    Args:
        images: uint8 [n, channels, height, width], 1 or 3 channels.
        encoding: how to keep them.

    Returns:
        ``width`` and ``height`` of an image on a sheet, in pixels; ``columns``; ``sheets``, a data address of each.

    Raises:
        UserError: Pillow is not installed, or cannot write WebP.
    """
    small = np.stack([_shrunk(image, encoding.side) for image in images]) if len(images) else images
    return {
        "height": int(small.shape[2]),
        "width": int(small.shape[3]),
        "columns": COLUMNS,
        "sheets": [_address(sheet, encoding.quality) for sheet in _tiled(small)],
    }


def _shrunk(image: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """An image [channels, height, width], no side longer than `side` pixels."""
    _, height, width = image.shape
    if max(height, width) <= side:
        return image
    from PIL import Image

    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    planes = [np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.LANCZOS)) for plane in image]
    return np.stack(planes)


def _tiled(images: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.uint8]]:
    """Sheets [height, width, channels]; what no image fills is black."""
    count, channels, height, width = images.shape
    for start in range(0, count, COLUMNS**2):
        part = images[start : start + COLUMNS**2]
        rows = -(-len(part) // COLUMNS)
        grid = np.zeros((rows * COLUMNS, channels, height, width), np.uint8)
        grid[: len(part)] = part
        grid = grid.reshape(rows, COLUMNS, channels, height, width).transpose(0, 3, 1, 4, 2)
        yield grid.reshape(rows * height, COLUMNS * width, channels)


def _address(sheet: npt.NDArray[np.uint8], quality: int | None) -> str:
    try:
        from PIL import Image, features
    except ImportError as error:
        raise UserError("images on a page need Pillow: pip install pillow, or leave the images out") from error
    if not features.check("webp"):
        raise UserError("this Pillow cannot write WebP, which images on a page need: install one that can")
    image = Image.fromarray(np.ascontiguousarray(sheet[:, :, 0] if sheet.shape[2] == 1 else sheet))
    held = io.BytesIO()
    if quality is None:
        image.save(held, "WEBP", lossless=True, method=4)
    else:
        image.save(held, "WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(held.getvalue()).decode("ascii")
