"""Decoding every kind of picture the same way, and the test transform against the `clip` package's."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from fewshot.encoders._clip_import import import_clip
from fewshot.images import UnreadableImage, decode, resize_and_crop


def encoded(image: Image.Image, kind: str = "PNG", **settings: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


GRADIENT = Image.fromarray((np.add.outer(np.arange(50), np.arange(70)) * 2).astype(np.uint8))


@pytest.mark.parametrize("size", [(70, 50), (50, 70), (64, 64), (31, 200), (33, 32), (32, 32), (500, 333)])
def test_transform_is_that_of_the_clip_package(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    expected = import_clip().clip._transform(32)(image)
    found = torch.from_numpy(resize_and_crop(image, 32)).float() / 255
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    assert torch.equal((found - mean.view(3, 1, 1)) / std.view(3, 1, 1), expected)


def test_grey_palette_and_one_bit_become_rgb() -> None:
    grey = np.asarray(GRADIENT)
    for image in (GRADIENT, GRADIENT.convert("P"), GRADIENT.convert("RGBA"), GRADIENT.convert("LA")):
        assert np.array_equal(np.asarray(decode(encoded(image))), np.stack([grey] * 3, -1)), image.mode
    one_bit = decode(encoded(GRADIENT.point(lambda v: 255 * (v > 100)).convert("1")))
    assert set(np.unique(np.asarray(one_bit))) == {0, 255}


def test_transparency_lies_over_white() -> None:
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    image.putpixel((1, 1), (255, 0, 0, 255))
    image.putpixel((2, 2), (0, 0, 0, 128))
    pixels = np.asarray(decode(encoded(image)))
    assert pixels[0, 0].tolist() == [255, 255, 255] and pixels[1, 1].tolist() == [255, 0, 0]
    assert pixels[2, 2].tolist() == [127, 127, 127]
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    pixels = np.asarray(decode(encoded(palette, "GIF", transparency=1)))
    assert pixels[0].tolist() == [[10, 20, 30], [255, 255, 255]]


def test_sixteen_bits_are_scaled() -> None:
    deep = Image.fromarray((np.asarray(GRADIENT).astype(np.uint16) * 257))
    assert np.array_equal(np.asarray(decode(encoded(deep)))[..., 0], np.asarray(GRADIENT))


def test_cmyk_and_orientation() -> None:
    pixels = np.asarray(decode(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100)))
    assert pixels[4, 4, 0] > 200 and pixels[4, 4, 1] < 60
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to see it upright
    upright = decode(encoded(GRADIENT.convert("RGB"), "PNG", exif=exif))
    assert np.array_equal(np.asarray(upright), np.rot90(np.asarray(GRADIENT.convert("RGB")), -1))


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (5, 5), c) for c in ("red", "blue")]
    assert np.asarray(decode(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])))[0, 0].tolist() == [
        255,
        0,
        0,
    ]


@pytest.mark.parametrize("data", [b"", b"text", encoded(GRADIENT)[:60], encoded(GRADIENT.convert("RGB"), "JPEG")[:300]])
def test_broken_files_raise_one_kind_of_error(data: bytes) -> None:
    with pytest.raises(UnreadableImage):
        decode(data)
