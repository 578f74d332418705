"""Images on sheets come back as they were, or nearly."""

from __future__ import annotations

import base64
import io
import sys

import numpy as np
import pytest
from PIL import Image

from turnover.errors import UserError
from turnover.exploring.sprites import COLUMNS, sheets, sheets_within, shrunk


def cut(found: dict[str, object], count: int) -> np.ndarray:
    """The images of the sheets again: uint8 [n, height, width, 3]."""
    width, height, images = found["width"], found["height"], []
    for address in found["sheets"]:  # type: ignore[attr-defined]
        data = base64.b64decode(address.removeprefix("data:image/webp;base64,"))
        sheet = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        for y in range(0, sheet.shape[0], height):  # type: ignore[call-overload]
            images += [sheet[y : y + height, x : x + width] for x in range(0, sheet.shape[1], width)]  # type: ignore[operator,call-overload]
    return np.stack(images)[:count]


@pytest.mark.parametrize("channels", [1, 3])
def test_small_images_are_kept_exactly(channels: int) -> None:
    count = COLUMNS**2 + 3
    images = np.random.default_rng(0).integers(0, 256, (count, channels, 5, 7), dtype=np.uint8)
    found = sheets(images)
    assert (found["width"], found["height"], found["columns"], len(found["sheets"])) == (7, 5, COLUMNS, 2)
    expected = np.broadcast_to(images.transpose(0, 2, 3, 1), (count, 5, 7, 3))
    np.testing.assert_array_equal(cut(found, count), expected)


def test_large_images_are_shrunk_and_stay_what_they_are() -> None:
    ramp = np.linspace(0, 255, 200).astype(np.uint8)
    images = np.broadcast_to(ramp, (4, 3, 100, 200)).copy()
    found = sheets(shrunk(images, 32), quality=80)
    assert (found["width"], found["height"]) == (32, 16)
    assert np.abs(cut(found, 4)[:, 8, :, 0] - np.linspace(0, 255, 32)).max() < 12


def test_without_pillow_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UserError, match="images on a page need Pillow: pip install pillow"):
        sheets(np.zeros((2, 1, 4, 4), np.uint8))


def test_the_best_that_has_room() -> None:
    rng = np.random.default_rng(0)
    images = {"a": rng.integers(0, 256, (20, 1, 80, 60), dtype=np.uint8), "b": np.zeros((1, 1, 20, 20), np.uint8)}

    def size(found: dict[str, dict[str, object]] | None) -> int:
        assert found is not None
        return sum(len(address) for of in found.values() for address in of["sheets"])  # type: ignore[attr-defined]

    best = sheets_within(images, 1_000_000)
    assert best is not None
    assert {name: (of["height"], of["width"]) for name, of in best.items()} == {"a": (64, 48), "b": (20, 20)}
    room = size(best)
    for _ in range(4):  # each time less exactly, or smaller
        found = sheets_within(images, room - 1)
        assert size(found) < room
        room = size(found)
    assert sheets_within(images, 1000) is None
