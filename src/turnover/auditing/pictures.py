"""Images as the network of an audit takes them: one size, grey or coloured, in one array."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from turnover.auditing.saved import content_of
from turnover.collecting.decoding import read_picture
from turnover.collecting.rows import Row
from turnover.errors import DataError
from turnover.progress import progress_bar
from turnover.serving.pictures import fitted, pillow

_BLOCK = 512  # images that are decoded before they are stored
_LOOKED_AT = 500  # images whose sizes decide the size of all


@dataclass(frozen=True, eq=False)
class Pictures:
    """Decoded images.

    Attributes:
        pixels: uint8 [n, channels, height, width], of those that could be read.
        readable: bool, of all rows, which those are.
        refused: why each of the others could not, in their order.
        notices: what was done about some of them.
    """

    pixels: npt.NDArray[np.uint8]
    readable: npt.NDArray[np.bool_]
    refused: tuple[str, ...]
    notices: tuple[str, ...]


def sizes_of(rows: Sequence[Row]) -> list[tuple[int, int]]:
    """Height and width of some of the images, as they lie in the file; those that cannot be read are left out."""
    image = pillow()
    found = []
    for row in rows[:: max(1, len(rows) // _LOOKED_AT)]:
        try:
            content = content_of(row)
            if content is not None or row.path.is_file():
                with image.open(row.path if content is None else io.BytesIO(content)) as opened:
                    found.append((opened.height, opened.width))
        except Exception:  # decoding names it
            continue
    return found


def shape_for(sizes: Sequence[tuple[int, int]], side: int) -> tuple[int, int]:
    """Height and width that all images are brought to: their own if it is one and small enough, else a square."""
    if len(set(sizes)) == 1 and max(sizes[0]) <= side * 1.25 and min(sizes[0]) >= 8:
        return sizes[0]
    return side, side


def decode(rows: Sequence[Row], shape: tuple[int, int], *, progress: bool | None = None) -> Pictures:
    """Every image, brought to `shape` (height, width).

    Raises:
        UserError: more than half of them cannot be read; or Pillow is not installed.
    """
    image = pillow()
    height, width = shape
    pixels = np.zeros((len(rows), 1, height, width), dtype=np.uint8)
    readable = np.zeros(len(rows), dtype=np.bool_)
    refused: list[str] = []
    counts = dict.fromkeys(("laid on white", "stretched", "frames"), 0)

    def one(row: Row) -> tuple[npt.NDArray[np.uint8], dict[str, bool]] | str:
        try:
            picture = read_picture(row.path, content=content_of(row), stretch=True)
        except DataError as error:
            return str(error)
        done = {"laid on white": picture.transparent, "stretched": picture.stretched, "frames": picture.frames > 1}
        return fitted(picture.pixels, height, width), done

    bar = progress_bar(total=len(rows), unit="image", description="reading", show=progress)
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool, bar:
        warnings.simplefilter("error", image.DecompressionBombWarning)  # refused, not only warned of
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            for place, found in enumerate(pool.map(one, block), start):
                if isinstance(found, str):
                    refused.append(found)
                    continue
                if len(found[0]) > pixels.shape[1]:
                    pixels = np.repeat(pixels, 3, axis=1)  # all before it were grey
                pixels[place] = found[0]
                readable[place] = True
                for what, was in found[1].items():
                    counts[what] += was
            bar.update(len(block))
    if 2 * len(refused) > len(rows):
        raise DataError(f"{len(refused)} of {len(rows)} images cannot be read; the first: {refused[0]}")
    texts = {
        "laid on white": "images are transparent in places and were laid on white",
        "stretched": "images have more than 8 bits a channel; their own range was stretched to 0..255",
        "frames": "images have several frames or pages, of which the first was taken",
    }
    notices = [f"{counts[what]} {text}" for what, text in texts.items() if counts[what]]
    if refused:
        notices.append(f"{len(refused)} images cannot be read and were left out (unreadable.csv names them)")
    return Pictures(pixels[readable], readable, tuple(refused), tuple(notices))
