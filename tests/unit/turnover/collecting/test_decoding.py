"""Pixels as everybody sees them: upright, on white, and never clipped."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from study.data.sources.dataset import DataError
from tests.unit.study.data.pictures import save
from turnover.collecting.decoding import read_images, read_picture
from turnover.collecting.rows import Row

INK = 90


def rows(*paths: Path) -> list[Row]:
    return [Row(path, path.name, "label", None) for path in paths]


def pixels(path: Path) -> np.ndarray:
    """Of one image, [channels, height, width]."""
    return read_images(rows(path))[0]


def alpha(shape: str) -> np.ndarray:
    """255 where a picture shows its `shape`, [8, 8]."""
    drawn = np.zeros((8, 8), np.uint8)
    drawn[2 if shape == "square" else 4 : 6, 2:6] = 255
    return drawn


def rgba(shape: str, ink: int = INK) -> Image.Image:
    """A shape in grey `ink` on black that is transparent."""
    grey = np.where(alpha(shape) > 0, ink, 0).astype(np.uint8)
    return Image.merge("RGBA", [Image.fromarray(grey)] * 3 + [Image.fromarray(alpha(shape))])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_every_orientation_is_turned_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    seen = np.zeros((6, 10), np.uint8)  # three quarters differ: no turn or flip of it is the same
    seen[:3, :5], seen[:3, 5:], seen[3:, :5] = 240, 160, 80
    upright = Image.fromarray(seen.repeat(8, 0).repeat(8, 1))
    lying = [
        t
        for t in (None, *Image.Transpose)
        if _shown(upright if t is None else upright.transpose(t), orientation) == upright
    ]
    assert len(lying) == 1, "one way to lie in the file"
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright if lying[0] is None else upright.transpose(lying[0])
    stored.convert("RGB").save(tmp_path / f"x.{suffix}", exif=exif, quality=100)
    found = pixels(tmp_path / f"x.{suffix}")
    assert found.shape == (3, 48, 80)
    assert np.abs(found.astype(int) - np.asarray(upright)).max() <= 24, "but for what a codec loses at edges"


def _shown(image: Image.Image, orientation: int) -> Image.Image:
    """As Pillow shows an image with this orientation."""
    tagged = image.copy()
    tagged.getexif()[0x0112] = orientation
    return ImageOps.exif_transpose(tagged)


def test_an_orientation_behind_the_pixels_of_a_png_counts(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "x.png"
    Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(path)
    body = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    whole = path.read_bytes()
    path.write_bytes(whole[:-12] + chunk + whole[-12:])  # before the end, whose chunk has 12 bytes
    assert (pixels(path)[0] == np.rot90(np.arange(12).reshape(3, 4), -1)).all()


def test_photographs_taken_upright_and_on_their_side_have_one_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    save(tmp_path / "a.png", 7, size=(4, 3))
    Image.new("L", (3, 4), 7).save(tmp_path / "b.png", exif=exif)
    assert read_images(rows(tmp_path / "a.png", tmp_path / "b.png")).shape == (2, 1, 3, 4)


def test_damaged_exif_is_no_reason_to_refuse_a_picture(tmp_path: Path) -> None:
    Image.new("L", (4, 3), 7).save(tmp_path / "x.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xffnonsense")
    with pytest.warns(UserWarning, match="Corrupt EXIF"):
        assert pixels(tmp_path / "x.jpg").shape == (1, 3, 4)


def _palette(image: Image.Image) -> Image.Image:
    return image.quantize(4)


def _palette_with_alpha(image: Image.Image) -> Image.Image:
    made = image.convert("L").convert("P").convert("PA")
    made.putalpha(image.getchannel("A"))
    return made


# Mode, suffix, how it is made, channels.
TRANSPARENT: list[tuple[str, str, Callable[[Image.Image], Image.Image], int]] = [
    ("RGBA", "png", lambda image: image, 3),
    ("RGBA", "webp", lambda image: image, 3),
    ("RGBA", "tif", lambda image: image, 3),
    ("LA", "png", lambda image: image.convert("LA"), 1),
    ("LA", "tif", lambda image: image.convert("LA"), 1),
    ("P", "png", _palette, 3),
    ("P", "gif", lambda image: image, 3),
    ("PA", "tif", _palette_with_alpha, 3),
]


@pytest.mark.parametrize(("mode", "suffix", "made", "channels"), TRANSPARENT)
@pytest.mark.parametrize("ink", [0, INK])
def test_transparent_pictures_are_laid_on_white(
    tmp_path: Path, mode: str, suffix: str, made: Callable[[Image.Image], Image.Image], channels: int, ink: int
) -> None:
    for shape in ("square", "bar"):
        path = tmp_path / f"{shape}.{suffix}"
        made(rgba(shape, ink)).save(path, lossless=True)
        with Image.open(path) as image:
            assert image.mode == mode
        found = pixels(path)
        assert found.shape == (channels, 8, 8)
        assert (found == np.where(alpha(shape) > 0, ink, 255)).all()


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_a_transparent_colour_is_white(tmp_path: Path, mode: str) -> None:
    grey = Image.fromarray(np.where(alpha("bar") > 0, INK, 3).astype(np.uint8))
    grey.convert(mode).save(tmp_path / "x.png", transparency=(3, 3, 3) if mode == "RGB" else 3)
    found = pixels(tmp_path / "x.png")
    assert len(found) == (1 if mode == "L" else 3)
    assert (found == np.where(alpha("bar") > 0, INK, 255)).all()


def test_half_transparent_is_half_white(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 3), (100, 0, 200, 51)).save(tmp_path / "x.png")  # a fifth of it
    assert pixels(tmp_path / "x.png")[:, 0, 0].tolist() == [224, 204, 244]


def test_an_opaque_alpha_changes_nothing_and_is_not_worth_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    drawn = np.random.default_rng(0).integers(0, 256, (16, 16, 4), dtype=np.uint8)
    drawn[..., 3] = 255
    Image.fromarray(drawn).save(tmp_path / "x.png")
    assert (pixels(tmp_path / "x.png") == drawn[..., :3].transpose(2, 0, 1)).all()
    assert caplog.text == ""


def test_pictures_laid_on_white_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for n, shape in enumerate(("bar", "square", "bar")):
        rgba(shape).save(tmp_path / f"{n}.png")
    save(tmp_path / "3.png", 9, size=(8, 8))
    images = read_images(rows(*(tmp_path / f"{n}.png" for n in range(4))))
    assert images.shape == (4, 3, 8, 8) and (images[3] == 9).all()
    assert f"3 images are transparent in places and were laid on white, such as {tmp_path / '0.png'}" in caplog.text


def test_white_on_transparent_is_refused_rather_than_lost(tmp_path: Path) -> None:
    rgba("bar", 255).save(tmp_path / "x.png")
    with pytest.raises(DataError, match=r"x\.png is white on transparent and would vanish"):
        pixels(tmp_path / "x.png")
    Image.new("RGBA", (4, 3), "white").save(tmp_path / "blank.png")
    Image.new("RGBA", (4, 3), (0, 0, 0, 0)).save(tmp_path / "empty.png")
    assert (read_images(rows(tmp_path / "blank.png", tmp_path / "empty.png")) == 255).all()


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_of_several_frames_the_first_is_taken_and_said(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    frames = [Image.new("RGB", (8, 8), (ink, ink, ink)) for ink in (INK, 10, 200)]
    frames[0].save(tmp_path / f"x.{suffix}", save_all=True, append_images=frames[1:], lossless=True)
    assert (pixels(tmp_path / f"x.{suffix}") == INK).all()
    assert "1 images have several frames or pages, of which the first was taken" in caplog.text


def test_grey_images_before_and_after_a_coloured_one_get_three_channels(tmp_path: Path) -> None:
    paths = [tmp_path / f"{n}.png" for n in range(5)]
    for n, path in enumerate(paths):
        save(path, 50 + n, mode="RGB" if n == 2 else "L")
    images = read_images(rows(*paths))
    assert images[:, :, 0, 0].tolist() == [[50] * 3, [51] * 3, [52, 0, 203], [53] * 3, [54] * 3]
    assert (images == images[:, :, :1, :1]).all()
    assert read_images(rows(*paths[:2])).shape == (2, 1, 3, 4)


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [("png", np.uint16), ("tif", np.uint16), ("tif", np.int32), ("tif", np.float32), ("pgm", np.uint16)],
)
def test_deep_images_are_refused_rather_than_clipped(tmp_path: Path, suffix: str, kind: type) -> None:
    Image.fromarray(np.full((3, 4), 3000, kind)).save(tmp_path / f"x.{suffix}")
    with pytest.raises(DataError, match=rf"x\.{suffix} has more than 8 bits a channel"):
        pixels(tmp_path / f"x.{suffix}")


def test_shallow_images_are_scaled(tmp_path: Path) -> None:
    (tmp_path / "x.pgm").write_bytes(b"P5 2 2 15\n" + bytes([0, 5, 10, 15]))
    assert pixels(tmp_path / "x.pgm").tolist() == [[[0, 85], [170, 255]]]
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "x.png")
    assert pixels(tmp_path / "x.png").tolist() == [[[255, 0]]]


def test_of_deep_images_their_own_range_is_seen_where_it_is_asked_for(tmp_path: Path) -> None:
    for kind, values in ((np.uint16, [1000, 2000, 3000]), (np.float32, [-1.0, 0.0, 1.0]), (np.int32, [7, 7, 7])):
        Image.fromarray(np.array([values], kind)).save(tmp_path / "x.tif")
        picture = read_picture(tmp_path / "x.tif", stretch=True)
        assert picture.stretched
        assert picture.pixels.tolist() == [[[0, 0, 0] if values[0] == values[2] else [0, 128, 255]]]


def test_all_damaged_files_are_named_at_once(tmp_path: Path) -> None:
    save(tmp_path / "whole.png")
    for n in range(22):
        (tmp_path / f"{n}.png").write_bytes(b"no picture")
    names = [*(f"{n}.png" for n in range(2)), "whole.png", *(f"{n}.png" for n in range(2, 22))]
    with pytest.raises(DataError) as caught:
        read_images(rows(*(tmp_path / name for name in names)))
    message = str(caught.value)
    assert message.startswith("22 images are refused: ") and message.endswith("; and 2 more")
    assert all(str(tmp_path / f"{n}.png") in message for n in range(20))


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From where Pillow only warns."""
    save(tmp_path / "x.png", size=(30, 40))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match=r"x\.png cannot be read: Image size \(1200 pixels\) exceeds limit of 1000"):
        pixels(tmp_path / "x.png")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(DataError, match=r"x\.png cannot be read: it is no file"):
        pixels(tmp_path / "x.png")
