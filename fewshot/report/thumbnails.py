"""Pictures small enough to travel inside a page, each once, and never more of them than a budget of bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

from PIL import Image, features

from episodes.decoding import UnreadableImage, read_bytes
from fewshot.images.transform import clip_pixels

SIDE, SMALL_SIDE = 112, 72  # shown at 96 CSS pixels; the small one where there are many
TYPICAL_BYTES = 4000  # of a photograph's data at SIDE
_QUALITY = 70


class BudgetSpent(Exception):
    """The next thumbnail would not fit."""


class Thumbnails:
    """Makes thumbnails as base64 text until `budget` bytes of them were made.

    A thumbnail shows what the encoder sees: the upright picture's central square.
    """

    def __init__(self, items: Sequence[Any], budget: int, side: int = SIDE) -> None:
        """Store what there is to show, and how many bytes it may take.

        Args:
            items: what the rows of a table stand for.
            budget: bytes of all thumbnails together.
            side: pixels.
        """
        self._items, self._budget, self._side = items, budget, side
        self._format = "WEBP" if features.check("webp") else "JPEG"
        self._numbers: dict[int, int] = {}
        self.made: list[str] = []
        self.spent = 0

    @property
    def prefix(self) -> str:
        """What makes a data URI of the base64 text."""
        return f"data:image/{self._format.lower()};base64,"

    def number(self, row: int) -> int:
        """Which of `made` shows a row; -1 where it cannot be read, or has not been added."""
        return self._numbers.get(row, -1)

    def add(self, row: int) -> None:
        """Make the thumbnail of a row, unless there is one; an unreadable picture has none and costs nothing.

        Raises:
            BudgetSpent: it would not fit.
        """
        if row in self._numbers:
            return
        try:
            pixels = clip_pixels(read_bytes(self._items[row]), self._side)
        except UnreadableImage:
            self._numbers[row] = -1
            return
        buffer = io.BytesIO()
        Image.fromarray(pixels.transpose(1, 2, 0)).save(buffer, self._format, quality=_QUALITY)
        text = base64.b64encode(buffer.getvalue()).decode("ascii")
        if self.spent + len(text) > self._budget:
            raise BudgetSpent
        self.spent += len(text)
        self._numbers[row] = len(self.made)
        self.made.append(text)
