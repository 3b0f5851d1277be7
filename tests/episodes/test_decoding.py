"""Decoding every kind of picture the same way, and the test transform against the `clip` package's."""

from __future__ import annotations

import io
import os
import socket
import struct
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from episodes.decoding import MOST_BYTES, UnreadableImage, decode, read_bytes
from fewshot.encoders import load_encoder
from fewshot.encoders._clip_import import import_clip
from fewshot.images.transform import clip_pixels, normalise, resize_and_crop


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
    deep = Image.fromarray(np.asarray(GRADIENT).astype(np.uint16) * 257)
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


def photograph(width: int, height: int, seed: int = 0) -> Image.Image:
    """Something with the spectrum of a photograph: detail at every scale, less of it the finer."""
    generator = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for octave in range(2, 11):
        coarse = generator.uniform(-1, 1, (max(2, height * 2**octave // 2048), max(2, width * 2**octave // 2048), 3))
        layers = [
            Image.fromarray(coarse[..., c].astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
            for c in range(3)
        ]
        total += np.stack([np.asarray(layer) for layer in layers], -1) / 2 ** (octave - 2)
    return Image.fromarray(((total - total.min()) / np.ptp(total) * 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("size", "at_least", "expected"),
    [
        ((2000, 1500), 448, (1000, 750)),
        ((1500, 2000), 375, (375, 500)),
        ((895, 2000), 448, (895, 2000)),
        ((896, 2000), 448, (448, 1000)),
        ((4000, 3600), 448, (500, 450)),
        ((2000, 1500), None, (2000, 1500)),
    ],
)
def test_a_large_jpeg_is_decoded_smaller_but_never_below_the_bound(
    size: tuple[int, int], at_least: int | None, expected: tuple[int, int]
) -> None:
    data = encoded(Image.new("RGB", size, (10, 200, 30)), "JPEG")
    assert decode(data, at_least).size == expected
    assert decode(encoded(Image.new("RGB", size), "PNG"), at_least).size == size


def test_orientation_of_a_reduced_jpeg() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = photograph(800, 600)
    found = decode(encoded(image, "JPEG", exif=exif, quality=95), 100)
    assert found.size == (150, 200)
    expected = image.resize((200, 150), Image.Resampling.BOX).rotate(-90, expand=True)
    assert np.abs(np.asarray(found, dtype=float) - np.asarray(expected)).mean() < 3


@pytest.mark.parametrize("backbone", ["tiny", "vit", "resnet"])
def test_reduced_decoding_moves_embeddings_by_less_than_a_thousandth(
    backbone: str, request: pytest.FixtureRequest
) -> None:
    encoder = load_encoder(backbone if backbone == "tiny" else str(request.getfixturevalue(f"{backbone}_file")))
    data = [
        encoded(photograph(70 * encoder.image_size // 4, 9 * encoder.image_size, i), "JPEG", quality=90)
        for i in range(6)
    ]
    reduced = np.stack([clip_pixels(d, encoder.image_size) for d in data])
    full = np.stack([resize_and_crop(decode(d), encoder.image_size) for d in data])
    assert not np.array_equal(reduced, full)
    with torch.no_grad():
        a, b = (encoder(normalise(torch.from_numpy(pixels), encoder)) for pixels in (reduced, full))
    assert ((a * b).sum(-1) > 1 - 1e-3).all()


@pytest.fixture
def socket_file() -> Iterator[Path]:
    """A socket with a picture's name; its path must be short."""
    with tempfile.TemporaryDirectory(prefix="s") as folder, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{folder}/s.jpg")
        yield Path(folder) / "s.jpg"


def test_only_regular_files_are_opened(tmp_path: Path, socket_file: Path) -> None:
    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "folder.jpg").mkdir()
    for name, target in (
        ("a", tmp_path / "fifo.jpg"),
        ("b", "/dev/zero"),
        ("c", tmp_path / "c.jpg"),
        ("d", socket_file),
    ):
        (tmp_path / f"{name}.jpg").symlink_to(target)
    for name, why in (
        ("fifo.jpg", "a FIFO"), ("a.jpg", "a FIFO"), ("b.jpg", "a device"), ("folder.jpg", "a folder"),
        ("c.jpg", "symbolic links"), ("d.jpg", "No such device"), ("gone.jpg", "No such file"),
    ):  # fmt: skip
        with pytest.raises(UnreadableImage, match=why):
            read_bytes(tmp_path / name)
    (tmp_path / "real").write_bytes(b"123")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "real")
    assert read_bytes(tmp_path / "link.jpg") == b"123"
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(20):
        with pytest.raises(UnreadableImage):
            read_bytes(tmp_path / "b.jpg")
    assert not before or len(os.listdir("/proc/self/fd")) == before


def test_reading_and_decoding_have_a_limit(tmp_path: Path) -> None:
    with open(tmp_path / "sparse.jpg", "wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(UnreadableImage, match=r"536,870,913 bytes: more than the 536,870,912"):
        read_bytes(tmp_path / "sparse.jpg")
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 60_000, 3_000, 8, 2, 0, 0, 0)
    bomb = header + struct.pack(">I", zlib.crc32(header[12:])) + struct.pack(">I4sI", 0, b"IEND", zlib.crc32(b"IEND"))
    with pytest.raises(UnreadableImage, match=r"more than the 178,956,970 pixels"):
        decode(bomb)
