"""Images that come and go: read from the bytes of a file, brought to a size, and written as addresses."""

from __future__ import annotations

import base64
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from turnover.collecting.decoding import read_picture
from turnover.errors import DataError, UserError, reason

# No other of Pillow's formats is tried on what a stranger sends: some start programs, as EPS does.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
LARGEST = 50_000_000  # pixels


def pillow() -> Any:
    """Pillow's module `Image`.

    Raises:
        UserError: it is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise UserError(
            f"to read images, Pillow must be installed (pip install 'turnover[audit]'): {reason(error)}"
        ) from error
    return Image


def fitted(pixels: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """An image [channels, height, width], stretched or shrunk to a height and width; 1 channel or 3."""
    if pixels.shape[1:] == (height, width):
        return pixels
    image = pillow()
    drawn = image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    resized = np.asarray(drawn.resize((width, height), image.Resampling.BILINEAR, reducing_gap=2.0))
    return resized[None] if resized.ndim == 2 else resized.transpose(2, 0, 1)


def coloured(pixels: npt.NDArray[np.uint8], channels: int) -> npt.NDArray[np.uint8]:
    """An image [1 or 3 channels, height, width] with so many channels: grey ones in colour, coloured ones in grey."""
    if len(pixels) == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=0)
    return np.asarray(pillow().fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).convert("L"))[None]


def uploaded(content: bytes, shape: tuple[int, int, int]) -> tuple[npt.NDArray[np.uint8], list[str]]:
    """The image that a file holds, as the training examples were read.

    Args:
        content: of a file.
        shape: channels, height and width to bring it to.

    Returns:
        uint8 of that shape, and what was done to the image, in words.

    Raises:
        DataError: it is no image of the kinds `FORMATS`, is damaged, or has too many pixels.
    """
    image = pillow()
    kinds = ", ".join(FORMATS)
    try:
        with image.open(io.BytesIO(content), formats=FORMATS) as opened:
            size = opened.width, opened.height
    except Exception as error:  # a damaged file makes Pillow's decoders raise nearly anything
        raise DataError(f"this is no image that can be read ({kinds})") from error
    if size[0] * size[1] > LARGEST:
        raise DataError(f"this image has {size[0]:,} x {size[1]:,} pixels; send one of at most {LARGEST:,}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"
        path.write_bytes(content)
        try:
            picture = read_picture(path, stretch=True)
        except DataError as error:
            raise DataError(str(error).replace(f"the image {path}", "this image")) from error
    channels, height, width = shape
    found = coloured(fitted(picture.pixels, height, width), channels)
    done = {
        "transparent places were laid on white": picture.transparent,
        "its own range was stretched to 0..255": picture.stretched,
        "the first of its frames was taken": picture.frames > 1,
        f"it was brought from {size[0]} x {size[1]} to {width} x {height} pixels": picture.pixels.shape[1:]
        != (height, width),
        "its colours became grey": len(picture.pixels) > channels,
    }
    return np.ascontiguousarray(found), [text for text, was in done.items() if was]


def address(pixels: npt.NDArray[np.uint8]) -> str:
    """An image [channels, height, width] as the address of a PNG in itself."""
    image = pillow().fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    kept = io.BytesIO()
    image.save(kept, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(kept.getvalue()).decode("ascii")
