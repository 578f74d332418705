"""The pixels of image files as everybody sees them: upright, and on white where they are transparent."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from turnover.collecting.rows import Row
from turnover.errors import DataError, reason

if TYPE_CHECKING:  # Pillow is asked for by those who bring images, not by the library
    from PIL import Image

log = logging.getLogger(__name__)

GREY = frozenset({"1", "L", "LA", "La"})
DEEP = ("I", "F")  # Pillow clips these to 8 bits without a word: "I", "I;16", "I;16B", "F"
PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}
ORIENTATION = 0x0112  # the EXIF tag
# How the picture is turned upright, by its EXIF orientation: names of Pillow's transpositions.
TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
NAMED = 20  # at most so many damaged files are named in one message


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels, uint8 `[channels, height, width]`, 1 channel or 3, and what was done about them.

    Args:
        transparent: it is transparent in places, and was laid on white.
        frames: how many frames or pages the file has, of which the first was taken.
        stretched: it has more than 8 bits a channel, and its own darkest to brightest became 0 to 255.
    """

    pixels: npt.NDArray[np.uint8]
    transparent: bool
    frames: int
    stretched: bool = False


def read_images(rows: Sequence[Row]) -> npt.NDArray[np.uint8]:
    """The images of `rows`, uint8 `[n, channels, height, width]`: grey ones have one channel, unless one is coloured.

    Log warnings say how many were laid on white, and how many hold more than the frame that was taken, the first.

    Raises:
        DataError: files that are no images, or ones of more than 8 bits a channel (all are named); or sizes differ.
    """
    images: npt.NDArray[np.uint8] | None = None
    first: Path | None = None
    transparent: list[Path] = []
    animated: list[Path] = []
    refused: list[DataError] = []
    for place, (row, picture) in enumerate(zip(rows, pictures(rows), strict=True)):
        if isinstance(picture, DataError):
            refused.append(picture)
            continue
        if images is None:
            first, images = row.path, np.empty((len(rows), *picture.pixels.shape), dtype=np.uint8)
        (height, width), (first_height, first_width) = picture.pixels.shape[1:], images.shape[2:]
        if (height, width) != (first_height, first_width):
            raise DataError(
                f"images differ in size: {first} is {first_width} x {first_height}, {row.path} is "
                f"{width} x {height} (width x height); save them all in one size first, for example with "
                "Pillow's Image.resize"
            )
        if len(picture.pixels) > images.shape[1]:
            images = np.repeat(images, len(picture.pixels), axis=1)  # all before it were grey
        images[place] = picture.pixels  # a grey one into all three channels
        transparent += [row.path] if picture.transparent else []
        animated += [row.path] if picture.frames > 1 else []
    if refused or images is None:
        raise all_in_one(refused)
    for paths, what in (
        (transparent, "images are transparent in places and were laid on white"),
        (animated, "images have several frames or pages, of which the first was taken"),
    ):
        if paths:
            log.warning("%d %s, such as %s", len(paths), what, paths[0])
    return images


def all_in_one(errors: Sequence[DataError]) -> DataError:
    """One error with the messages of all."""
    more = f"; and {len(errors) - NAMED} more" if len(errors) > NAMED else ""
    if len(errors) == 1:
        return errors[0]
    return DataError(f"{len(errors)} images are refused: {'; '.join(map(str, errors[:NAMED]))}{more}")


def pictures(rows: Sequence[Row]) -> Iterator[Picture | DataError]:
    """The picture of every row, or why there is none: a damaged file does not hide the next one."""
    from PIL import Image

    with warnings.catch_warnings():
        # A decompression bomb is refused from this size on, where Pillow only warns up to twice as many pixels.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for row in rows:
            try:
                yield read_picture(row.path)
            except DataError as error:
                yield error


def read_picture(path: Path, *, content: bytes | None = None, stretch: bool = False) -> Picture:
    """One image file.

    Args:
        path: the file.
        content: its bytes, where they lie elsewhere; `path` then only names it.
        stretch: an image of more than 8 bits a channel is not refused: its own range becomes 0 to 255.

    Raises:
        DataError: it is no image, or has more than 8 bits a channel, or would vanish when it is laid on white.
    """
    with _opened(path, content) as image:
        # Telephones add frames of their own to a photograph ("MPO").
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        mode = image.mode
        deep = mode.startswith(DEEP)
        transparent = vanished = False
        if deep and stretch:
            pixels = _stretched(np.asarray(_upright(image)))
        elif not deep:
            seen, transparent, vanished = _on_white(_upright(image))
            pixels = np.asarray(seen.convert("L" if mode in GREY else "RGB"))
    if deep and not stretch:
        raise DataError(f"the image {path} has more than 8 bits a channel (mode {mode}); save it with 8")
    if vanished:
        raise DataError(
            f"the image {path} is white on transparent and would vanish, as transparent images are laid on white; "
            "lay it on another colour first"
        )
    return Picture(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1), transparent, frames, deep)


def _stretched(values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """`values` [height, width], of which the lowest becomes 0 and the highest 255. What is not finite becomes 0."""
    finite = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    lowest, highest = finite.min(), finite.max()
    scaled: npt.NDArray[np.uint8] = np.rint((finite - lowest) * (255.0 / max(highest - lowest, 1e-300))).astype(
        np.uint8
    )
    return scaled


def _upright(image: Image.Image) -> Image.Image:
    """`image`, loaded, as its EXIF says that it is to be seen. (Of TIFF files Pillow sees to that itself.)"""
    from PIL.Image import Transpose

    image.load()
    # Not Pillow's exif_transpose: it writes the rest of the EXIF anew, and fails where that is damaged.
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # nearly anything, and every viewer shows such a file as it lies
        turn = None
    return image if turn is None else image.transpose(Transpose[turn])


def _on_white(image: Image.Image) -> tuple[Image.Image, bool, bool]:
    """`image` laid on white, whether it is transparent anywhere, and whether a picture in it can be seen no more."""
    from PIL import Image

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
def _opened(path: Path, content: bytes | None) -> Iterator[Image.Image]:
    from PIL import Image

    try:
        if content is None and path.exists() and not path.is_file():  # a pipe would be waited for, for ever
            raise ValueError("it is no file")
        with Image.open(path if content is None else io.BytesIO(content)) as image:
            yield image
    except Exception as error:  # a damaged file makes Pillow's decoders raise nearly anything
        raise DataError(f"the image {path} cannot be read: {reason(error)}; mend it or leave it out") from error
