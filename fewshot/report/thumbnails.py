"""Pictures small enough to travel inside a page, and never more of them than a budget of bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

from PIL import Image, features

from fewshot.images.decoding import UnreadableImage, read_bytes
from fewshot.images.transform import clip_pixels

SIDE = 112  # shown at about 96 CSS pixels
_QUALITY = 70


class BudgetSpent(Exception):
    """The next thumbnail would not fit."""


class Thumbnails:
    """Makes data URIs until `budget` bytes of them were made.

    A thumbnail shows what the encoder sees: the upright picture's central square.
    """

    def __init__(self, items: Sequence[Any], budget: int) -> None:
        """Store what there is to show, and how many bytes it may take.

        Args:
            items: what the rows of a table stand for.
            budget: bytes of all data URIs together.
        """
        self._items, self._budget = items, budget
        self._format = "WEBP" if features.check("webp") else "JPEG"
        self.spent = 0

    def uri(self, row: int) -> str | None:
        """The data URI of a picture; None where it cannot be read.

        Raises:
            BudgetSpent: it would not fit.
        """
        try:
            pixels = clip_pixels(read_bytes(self._items[row]), SIDE)
        except UnreadableImage:
            return None
        buffer = io.BytesIO()
        Image.fromarray(pixels.transpose(1, 2, 0)).save(buffer, self._format, quality=_QUALITY)
        text = base64.b64encode(buffer.getvalue()).decode("ascii")
        uri = f"data:image/{self._format.lower()};base64,{text}"
        if self.spent + len(uri) > self._budget:
            raise BudgetSpent
        self.spent += len(uri)
        return uri
