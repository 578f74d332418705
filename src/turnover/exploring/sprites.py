"""Many small images in few large ones, as addresses that hold them."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from turnover.errors import UserError

COLUMNS = 32  # images in a row of a sheet; and rows of a sheet, at most


SIDES = (64, 48, 32)  # pixels that images are shrunk to, where they are larger
QUALITIES = (None, 80, 50)  # None: exactly


def sheets_within(images: Mapping[str, npt.NDArray[np.uint8]], room: int) -> dict[str, dict[str, Any]] | None:
    """Sheets of all images, the best that take at most `room` bytes together; None if not even the smallest do.

    Args:
        images: by name uint8 [n, channels, height, width], 1 or 3 channels, n > 0.
        room: bytes.

    Returns:
        By name what `sheets` gives.

    Raises:
        UserError: see `sheets`.
    """
    largest = max(max(of.shape[2:]) for of in images.values())
    for side in SIDES:
        if side != SIDES[0] and largest <= side:
            break  # they were as small before
        small = {name: shrunk(of, side) for name, of in images.items()}
        for quality in QUALITIES:
            left, found = room, dict[str, dict[str, Any]]()
            for name, of in small.items():
                found[name] = sheets(of, quality, left)
                left -= sum(map(len, found[name]["sheets"]))
                if left < 0:
                    break
            else:
                return found
    return None


def sheets(images: npt.NDArray[np.uint8], quality: int | None = None, room: float = math.inf) -> dict[str, Any]:
    """Sheets of `COLUMNS` x `COLUMNS` images, row by row; no more of them than first pass `room` bytes.

    Args:
        images: uint8 [n, channels, height, width], 1 or 3 channels.
        quality: of WebP, None: exactly.
        room: bytes.

    Returns:
        ``width`` and ``height`` of an image on a sheet, in pixels; ``columns``; ``sheets``, a data address of each.

    Raises:
        UserError: Pillow is not installed, or cannot write WebP.
    """
    found: list[str] = []
    for sheet in _tiled(images):
        found.append(_address(sheet, quality))
        room -= len(found[-1])
        if room < 0:
            break
    return {"height": int(images.shape[2]), "width": int(images.shape[3]), "columns": COLUMNS, "sheets": found}


def shrunk(images: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """Images [n, channels, height, width], no side longer than `side` pixels."""
    return images if max(images.shape[2:]) <= side else np.stack([_shrunk(image, side) for image in images])


def _shrunk(image: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    _, height, width = image.shape
    Image = _pillow()
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
    Image = _pillow()
    image = Image.fromarray(np.ascontiguousarray(sheet[:, :, 0] if sheet.shape[2] == 1 else sheet))
    held = io.BytesIO()
    if quality is None:
        image.save(held, "WEBP", lossless=True, method=4)
    else:
        image.save(held, "WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(held.getvalue()).decode("ascii")


def _pillow() -> Any:
    """Its module of images, imported where one is needed: the core does without."""
    try:
        from PIL import Image, features
    except ImportError as error:
        raise UserError("images on a page need Pillow: pip install pillow, or leave the images out") from error
    if not features.check("webp"):
        raise UserError("this Pillow cannot write WebP, which images on a page need: install one that can")
    return Image
