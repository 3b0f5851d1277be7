"""Picture files to RGB pictures, one way for every file.

Decoding is the same for every picture: first frame, EXIF orientation applied, transparency over white, 16-bit scaled to
8-bit, then RGB. Whatever reads a picture comes through here.
"""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from episodes.files import open_regular

MOST_BYTES = 512 << 20  # of a file
MOST_PIXELS = 2 * 89_478_485  # of a picture: where Pillow refuses as well; half a gigabyte as RGB
# Formats of the suffixes in `episodes.files.PICTURE_SUFFIXES`. Pillow looks at what is in a file, not at its name, and knows formats that
# run other programs: PostScript called .jpg would be handed to Ghostscript. TGA comes last: it has no mark of its own.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF", "HEIF", "TGA")
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
        image = Image.open(io.BytesIO(data), formats=_known_formats())
        if image.width * image.height > MOST_PIXELS:
            raise Image.DecompressionBombError
        if at_least is not None and image.format == "JPEG":
            image.draft(None, (at_least, at_least))
        image.load()
        ImageOps.exif_transpose(image, in_place=True)  # the other way copies every picture
        return to_rgb(image)
    except Image.DecompressionBombError as error:  # from Pillow's own look at the header too; nothing has been decoded
        raise UnreadableImage(f"more than the {MOST_PIXELS:,} pixels that are decoded of a picture") from error
    except UnidentifiedImageError as error:
        raise UnreadableImage("not a picture in a known format") from error
    except Exception as error:  # Pillow's decoders raise many kinds on broken files
        raise UnreadableImage(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__) from error


def _known_formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow has: HEIF comes with a plug-in, AVIF with newer releases."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


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


def read_bytes(item: Any) -> bytes:
    """The bytes of a picture file.

    Only regular files are opened, links followed: a FIFO would wait for ever, and a device never end.

    Raises:
        UnreadableImage: the file cannot be opened, is no regular file, or is larger than `MOST_BYTES`.
    """
    try:
        with open_regular(os.fspath(item)) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MOST_BYTES:
                raise UnreadableImage(f"{size:,} bytes: more than the {MOST_BYTES:,} that are read of a picture")
            return file.readall()
    except (OSError, TypeError) as error:
        raise UnreadableImage(f"{type(error).__name__}: {error}") from error
