"""Pictures as Python has them, paths, PIL pictures and arrays: each becomes the bytes of a file, so that all are decoded in one way."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from episodes.decoding import read_bytes, to_rgb
from episodes.errors import UsageError
from episodes.files import display_name

Picture = Any  # a path, a PIL picture, or an array (H, W), (H, W, 3) or (H, W, 4) of uint8


def picture_bytes(picture: Picture) -> bytes:
    """The bytes of a picture file: read from a path, or written as PNG, which loses nothing, from what is in memory.

    Raises:
        UnreadableImage: the file cannot be read.
        UsageError: it is neither a path, nor a PIL picture, nor an array of uint8.
    """
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or not (picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] in (3, 4))):
            raise UsageError(
                f"a picture as an array is (H, W), (H, W, 3) or (H, W, 4) of uint8, found {picture.shape} of {picture.dtype}"
            )
        picture = Image.fromarray(picture)
    if isinstance(picture, Image.Image):
        upright = to_rgb(ImageOps.exif_transpose(picture))
        stream = io.BytesIO()
        upright.save(stream, "PNG", compress_level=1)
        return stream.getvalue()
    if not isinstance(picture, (str, os.PathLike)):
        raise UsageError(f"a picture is a path, a PIL picture or an array of uint8, found {type(picture).__name__}")
    return read_bytes(picture)


def picture_name(picture: Picture, number: int) -> str:
    """Its path, or its number among the pictures that were given."""
    return display_name(os.fspath(picture)) if isinstance(picture, (str, os.PathLike)) else f"picture {number}"


def warn_unreadable(pictures: Sequence[Picture], problems: Mapping[int, str]) -> None:
    """Name each of `problems` (number -> why) in a warning."""
    for number, problem in problems.items():
        warnings.warn(f"{picture_name(pictures[number], number)}: cannot be read ({problem})", stacklevel=4)
