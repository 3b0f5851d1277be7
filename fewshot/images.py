"""Picture files to tensors: one way to decode, and CLIP's test transform.

Decoding is the same for every picture: first frame, EXIF orientation applied, transparency over white, 16-bit scaled to
8-bit, then RGB. Tensors stay uint8 until they reach the encoder's device: a quarter of the bytes to move.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from fewshot.encoders.base import VisionEncoder

Pixels = npt.NDArray[np.uint8]
TRANSFORM = "clip-2"  # name of the test transform in cache keys: a change here that moves a pixel renames it
LONGEST = 32  # sides to one: what is longer is cropped before it is resized
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")


class UnreadableImage(ValueError):
    """A file that cannot be decoded as a picture; the message says why, the caller knows the path."""


def decode(data: bytes, at_least: int | None = None) -> Image.Image:
    """The bytes of a picture file -> an upright RGB picture.

    Args:
        data: the file's bytes.
        at_least: a JPEG whose sides are all at least twice, four or eight times this is decoded at a half, a quarter or an
            eighth of its size, which costs a fraction and keeps every side at this length or more; None decodes in full.

    Raises:
        UnreadableImage: empty, truncated, not a picture, or implausibly large.
    """
    if not data:
        raise UnreadableImage("the file is empty")
    try:
        image = Image.open(io.BytesIO(data))
        if at_least is not None and image.format == "JPEG":
            image.draft(None, (at_least, at_least))
        image.load()
        ImageOps.exif_transpose(image, in_place=True)  # the other way copies every picture
        return to_rgb(image)
    except UnidentifiedImageError as error:
        raise UnreadableImage("not a picture in a known format") from error
    except Exception as error:  # Pillow's decoders raise many kinds on broken files
        raise UnreadableImage(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode -> RGB, the same way every time: transparency over white, 16 bits and floats scaled to 8 bits."""
    if image.mode in _SIXTEEN_BIT:
        values = np.asarray(image).astype(np.int64)
        top = 65535 if image.mode != "I" or values.max(initial=0) > 255 else 255
        return Image.fromarray((np.clip(values, 0, top) * 255 // top).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        floats = np.nan_to_num(np.asarray(image, dtype=np.float64))
        scale = 255.0 if floats.max(initial=0.0) <= 1.0 else 1.0
        return Image.fromarray(np.clip(floats * scale, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layers = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def clip_pixels(data: bytes, size: int) -> Pixels:
    """The bytes of a picture file -> CLIP's test transform of it, (3, size, size) uint8.

    Large JPEGs are decoded at a reduced scale that keeps the shorter side at twice `size` or more.

    Raises:
        UnreadableImage: see `decode`.
    """
    return resize_and_crop(decode(data, at_least=2 * size), size)


def clip_tensors(files: Sequence[bytes], size: int) -> list[Tensor | UnreadableImage]:
    """`clip_pixels` of each file as a tensor, or why it cannot be read."""
    found: list[Tensor | UnreadableImage] = []
    for data in files:
        try:
            found.append(torch.from_numpy(clip_pixels(data, size)))
        except UnreadableImage as error:
            found.append(error)
    return found


def resize_and_crop(image: Image.Image, size: int) -> Pixels:
    """CLIP's test transform: shorter side to `size` (bicubic, antialiased), centre crop -> (3, size, size) uint8.

    The same arithmetic as the `clip` package's `Resize` and `CenterCrop` on the same RGB picture.
    """
    width, height = image.size
    short = min(width, height)
    if max(width, height) > LONGEST * short:  # a thread of a picture would become a giant one; only its middle is used
        wide, high = min(width, LONGEST * short), min(height, LONGEST * short)
        left, top = (width - wide) // 2, (height - high) // 2
        image = image.crop((left, top, left + wide, top + high))
        width, height = image.size
    if short != size:
        image = image.resize(resized(width, height, size), Image.Resampling.BICUBIC)
        width, height = image.size
    left, top = crop_corner(width, height, size)
    pixels = np.asarray(image.crop((left, top, left + size, top + size)))
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def resized(width: int, height: int, size: int) -> tuple[int, int]:
    """(width, height) of a picture whose shorter side becomes `size`."""
    longer = int(size * max(width, height) / min(width, height))
    return (size, longer) if width <= height else (longer, size)


def crop_corner(width: int, height: int, size: int) -> tuple[int, int]:
    """(left, top) of the centre crop of (size, size)."""
    return round((width - size) / 2.0), round((height - size) / 2.0)


def normalise(pixels: Tensor, encoder: VisionEncoder) -> Tensor:
    """(..., 3, H, W) uint8 -> float32, scaled to [0, 1], minus the encoder's mean, over its standard deviation."""
    mean = torch.tensor(encoder.mean, device=pixels.device).view(3, 1, 1)
    std = torch.tensor(encoder.std, device=pixels.device).view(3, 1, 1)
    return pixels.float().div_(255).sub_(mean).div_(std)


def read_bytes(item: Any) -> bytes:
    """The bytes of a picture file.

    Raises:
        UnreadableImage: the file cannot be opened.
    """
    try:
        with open(os.fspath(item), "rb", buffering=0) as file:
            return file.read()
    except (OSError, TypeError) as error:
        raise UnreadableImage(f"{type(error).__name__}: {error}") from error
