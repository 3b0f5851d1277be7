"""Pictures small enough for a page, whatever their format is."""

from __future__ import annotations

import io

from PIL import Image

from fewshot.images.transform import clip_pixels

SIDE = 144
TYPE = "image/jpeg"


def thumbnail(data: bytes) -> bytes:
    """A JPEG of what the encoder sees of a picture file: the central square.

    Raises:
        UnreadableImage: see `episodes.decoding.decode`.
    """
    buffer = io.BytesIO()
    Image.fromarray(clip_pixels(data, SIDE).transpose(1, 2, 0)).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
