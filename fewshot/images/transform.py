"""CLIP's test transform: RGB pictures to tensors of one size.

Tensors stay uint8 until they reach the encoder's device (a quarter of the bytes to move); `normalise` makes them floats there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from episodes.decoding import UnreadableImage, decode

Pixels = npt.NDArray[np.uint8]
TRANSFORM = "clip-2"  # name of the test transform in cache keys: a change here that moves a pixel renames it
LONGEST = 32  # sides to one: what is longer is cropped before it is resized


class ColourStatistics(Protocol):
    """Mean and standard deviation of the colour channels in [0, 1]; every `VisionEncoder` has them."""

    @property
    def mean(self) -> tuple[float, float, float]:
        """Channel means, red, green and blue."""
        ...

    @property
    def std(self) -> tuple[float, float, float]:
        """Channel standard deviations, red, green and blue."""
        ...


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


def normalise(pixels: Tensor, encoder: ColourStatistics) -> Tensor:
    """(..., 3, H, W) uint8 -> float32, scaled to [0, 1], minus the encoder's mean, over its standard deviation."""
    mean = torch.tensor(encoder.mean, device=pixels.device).view(3, 1, 1)
    std = torch.tensor(encoder.std, device=pixels.device).view(3, 1, 1)
    return pixels.float().div_(255).sub_(mean).div_(std)
