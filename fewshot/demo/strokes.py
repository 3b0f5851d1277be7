"""The middle line of a character's strokes: what a hand follows when it copies a printed letter."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

PAGE = 160  # side in pixels of the page that strokes are found on
BOX = 96  # longer side in pixels of the character in the middle of it
_GRID = 32  # cells a side that two shapes are compared on
_EM = 200  # pixels a character is rendered at before it is fitted into the box


@functools.lru_cache(maxsize=64)
def middle_lines(text: str, face: Path) -> NDArray[np.bool_]:
    """The page (160, 160), true along the middle of the strokes of a character as a font file draws it.

    The middle is the ridge of the distance to the edge of the ink: there the slope of that distance vanishes.
    """
    from scipy import ndimage

    ink = _fitted_ink(text, face)
    depth = ndimage.distance_transform_edt(ink)
    ridge = ink & (np.hypot(*np.gradient(depth)) < 0.8)
    if not ridge.any():
        return ink
    # The ridge also forks into the corners at the end of a stroke. A fork is shallower than the stroke it
    # leaves and no longer than that is wide; a thin stroke has nothing deeper near it and stays.
    reach = 2 * int(np.ceil(np.median(depth[ridge]))) + 1
    line: NDArray[np.bool_] = ridge & (depth >= 0.75 * ndimage.maximum_filter(depth, size=reach))
    return line


def stroke_distance(text: str, face: Path) -> NDArray[np.float32]:
    """How far each point of the page (160, 160) is from the middle of a stroke, in pixels of the page."""
    from scipy import ndimage

    distance: NDArray[np.float32] = ndimage.distance_transform_edt(~middle_lines(text, face)).astype(np.float32)
    return distance


@dataclass(frozen=True, eq=False)
class Shapes:
    """Stroke lines of n characters without size, place and proportions, as handwriting varies in them."""

    lines: NDArray[np.float32]  # (n, cells) each row sums to one
    distances: NDArray[np.float32]  # (n, cells) from each cell to the nearest of the line, 1 = the character's side

    @classmethod
    def of(cls, text: str, face: Path) -> Shapes:
        """Take the middle lines of a text in a typeface."""
        from scipy import ndimage

        points = np.argwhere(middle_lines(text, face)).astype(np.float64)
        low, high = points.min(axis=0), points.max(axis=0)
        extent = np.maximum(high - low, 0.4 * (high - low).max() + 1.0)  # a dash stays a dash
        cells = np.rint((points - (low + high) / 2) / extent * (_GRID - 1) + (_GRID - 1) / 2).astype(np.int64)
        line = np.zeros((_GRID, _GRID), np.float32)
        line[cells[:, 0], cells[:, 1]] = 1.0
        away = (ndimage.distance_transform_edt(line == 0) / _GRID).astype(np.float32)
        return cls((line / line.sum()).reshape(1, -1), away.reshape(1, -1))

    def __add__(self, other: Shapes) -> Shapes:
        return Shapes(np.concatenate([self.lines, other.lines]), np.concatenate([self.distances, other.distances]))

    def difference(self, other: Shapes) -> NDArray[np.float32]:
        """(n, m): how far one line lies from the other on average, in the worse direction (chamfer)."""
        worse: NDArray[np.float32] = np.maximum(self.lines @ other.distances.T, self.distances @ other.lines.T)
        return worse


def _fitted_ink(text: str, face: Path) -> NDArray[np.bool_]:
    font = ImageFont.truetype(str(face), _EM, layout_engine=ImageFont.Layout.BASIC)
    left, top, right, bottom = (round(edge) for edge in font.getbbox(text))
    glyph = Image.new("L", (max(1, right - left), max(1, bottom - top)))
    ImageDraw.Draw(glyph).text((-left, -top), text, font=font, fill=255)
    ratio = BOX / max(glyph.size)
    size = (max(1, round(glyph.width * ratio)), max(1, round(glyph.height * ratio)))
    paper = Image.new("L", (PAGE, PAGE))
    paper.paste(glyph.resize(size, Image.Resampling.BOX), ((PAGE - size[0]) // 2, (PAGE - size[1]) // 2))
    return np.asarray(paper) > 127
