"""The pixels of image files as everybody sees them: upright, and on white where they are transparent."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from study.data.sources.dataset import DataError, reason
from study.data.sources.rows import Row

log = logging.getLogger(__name__)

GREY = frozenset({"1", "L", "LA", "La"})
DEEP = ("I", "F")  # Pillow clips these to 8 bits without a word: "I", "I;16", "I;16B", "F"
PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}
# How the picture is turned upright, by its EXIF orientation.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, eq=False)
class _Picture:
    """Pixels, uint8 `[channels, height, width]`, and what was done about them."""

    pixels: npt.NDArray[np.uint8]
    transparent: bool
    frames: int


def read_images(rows: Sequence[Row]) -> npt.NDArray[np.uint8]:
    """The images of `rows`, uint8 `[n, channels, height, width]`: grey ones have one channel, unless one is coloured.

    Log warnings say how many were laid on white, and how many hold more than the frame that was taken, the first.

    Raises:
        DataError: a file is no image, or one of more than 8 bits a channel; or sizes differ.
    """
    first = _read(rows[0].path)
    images = np.empty((len(rows), *first.pixels.shape), dtype=np.uint8)
    transparent: list[Path] = []
    animated: list[Path] = []
    for place, row in enumerate(rows):
        picture = first if place == 0 else _read(row.path)
        (height, width), (first_height, first_width) = picture.pixels.shape[1:], images.shape[2:]
        if (height, width) != (first_height, first_width):
            raise DataError(
                f"images differ in size: {rows[0].path} is {first_width} x {first_height}, {row.path} is "
                f"{width} x {height} (width x height); save them all in one size first, for example with "
                "Pillow's Image.resize"
            )
        if len(picture.pixels) > images.shape[1]:
            images = np.repeat(images, len(picture.pixels), axis=1)  # all before it were grey
        images[place] = picture.pixels  # a grey one into all three channels
        transparent += [row.path] if picture.transparent else []
        animated += [row.path] if picture.frames > 1 else []
    for paths, what in (
        (transparent, "images are transparent in places and were laid on white"),
        (animated, "images have several frames or pages, of which the first was taken"),
    ):
        if paths:
            log.warning("%d %s, such as %s", len(paths), what, paths[0])
    return images


def _read(path: Path) -> _Picture:
    with _opened(path) as image:
        # Telephones add frames of their own to a photograph ("MPO").
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        mode = image.mode
        if not mode.startswith(DEEP):
            image.load()
            seen, transparent, vanished = _on_white(_upright(image))
            pixels = np.asarray(seen.convert("L" if mode in GREY else "RGB"))
    if mode.startswith(DEEP):
        raise DataError(f"the image {path} has more than 8 bits a channel (mode {mode}); save it with 8")
    if vanished:
        raise DataError(
            f"the image {path} is white on transparent and would vanish, as transparent images are laid on white; "
            "lay it on another colour first"
        )
    return _Picture(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1), transparent, frames)


def _upright(image: Image.Image) -> Image.Image:
    """A loaded `image` as its EXIF says that it is to be seen. (Of TIFF files Pillow sees to that itself.)"""
    # Not Pillow's exif_transpose: it writes the rest of the EXIF anew, and fails where that is damaged.
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # nearly anything, and every viewer shows such a file as it lies
        turn = None
    return image if turn is None else image.transpose(turn)


def _on_white(image: Image.Image) -> tuple[Image.Image, bool, bool]:
    """`image` laid on white, whether it is transparent anywhere, and whether a picture in it can be seen no more."""
    if not image.has_transparency_data:
        return image, False, False
    # Of the premultiplied modes Pillow converts to their plain ones alone.
    layer = image.convert(PREMULTIPLIED.get(image.mode, image.mode)).convert("RGBA")
    lowest, highest = layer.getchannel("A").getextrema()
    if lowest == 255:
        return image, False, False
    laid = Image.alpha_composite(Image.new("RGBA", image.size, "white"), layer).convert("RGB")
    return laid, True, lowest != highest and bool((np.asarray(laid) == 255).all())


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except Exception as error:  # a damaged file makes Pillow's decoders raise nearly anything
        raise DataError(f"the image {path} cannot be read: {reason(error)}; mend it or leave it out") from error
