"""Draws a character as if by hand: pen strokes along the middle of a font's strokes, bent and shaken.

Every picture is a pure function of (seed, character, index): its numbers are raw bits of a generator keyed by
those three, so the fifth picture is the same whether or not the first four were drawn.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from fewshot.demo.alphabets import Character
from fewshot.demo.strokes import PAGE, stroke_distance

SIDE = 64  # pixels of a picture
_FINE = PAGE / SIDE  # pixels of the page that strokes are found on to one of the picture

# How much a hand varies. Lengths are in pixels of the picture; a character is about 38 of them.
_ROTATION = np.deg2rad(15.0)
_SHEAR = 0.2
_STRETCH = 0.15  # of either axis
_SIZE = (0.85, 1.2)
_SHIFT = 3.0
_BEND = ((4, 2.2), (8, 0.8))  # grid points a side, standard deviation of their displacement
_PEN = (1.0, 2.1)  # half the width of the stroke
_PRESSURE = 0.2  # how much the width changes along the stroke

_WORDS = 16 + sum(2 * side * side for side, _ in _BEND) + 16


def draw(character: Character, indices: range | list[int], *, seed: int = 0) -> NDArray[np.uint8]:
    """Pictures (n, 64, 64) of a character, black on white, one for each index."""
    from scipy import ndimage

    if len(indices) == 0:
        raise ValueError(f"no indices to draw {character.name} for: expected at least one")
    u = np.stack([_uniforms(seed, ord(character.text), index) for index in indices])  # (n, words)
    faces = np.minimum((u[:, 0] * len(character.faces)).astype(np.int64), len(character.faces) - 1)
    where = _hand_coordinates(u)  # (n, 2, 64, 64) on the page
    pen = _pen_widths(u)  # (n, 64, 64)
    pictures = np.empty((len(u), SIDE, SIDE), np.uint8)
    pages = {face: stroke_distance(character.text, character.faces[face]) for face in np.unique(faces)}
    for n, face in enumerate(faces):
        distance = ndimage.map_coordinates(pages[face], where[n], order=1, mode="nearest") / _FINE
        ink = np.clip(pen[n] - distance + 0.5, 0.0, 1.0)
        pictures[n] = np.rint(255.0 * (1.0 - ink))
    return pictures


def _uniforms(seed: int, character: int, index: int) -> NDArray[np.float64]:
    """Numbers (words,) in [0, 1) from raw bits, whose stream numpy promises to keep."""
    bits = np.random.PCG64(np.random.SeedSequence((seed, character, index))).random_raw(_WORDS)
    numbers: NDArray[np.float64] = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return numbers


def _signed(u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Uniform in [-1, 1)."""
    return 2.0 * u - 1.0


def _hand_coordinates(u: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each pixel of each picture the point (n, 2, 64, 64) of the page that it shows, as (row, column)."""
    n = len(u)
    middle = (SIDE - 1) / 2.0
    grid = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")).astype(np.float64) - middle
    shifted = grid[None] - _SHIFT * _signed(u[:, 1:3])[:, :, None, None]
    turned = np.einsum("nij,njhw->nihw", np.linalg.inv(_affine(u)), shifted)
    used = 16
    for side, spread in _BEND:
        count = 2 * side * side
        # Uniform numbers with the asked standard deviation; spline weights sum to one, so edges bend no more.
        points = _signed(u[:, used : used + count]).reshape(n, 2, side, side) * spread * np.sqrt(3.0)
        weights = _spline_weights(side)
        turned += np.einsum("hi,ncij,wj->nchw", weights, points, weights, optimize=True)
        used += count
    where: NDArray[np.float64] = (turned + middle) * _FINE + (_FINE - 1.0) / 2.0
    return where


def _affine(u: NDArray[np.float64]) -> NDArray[np.float64]:
    """The maps (n, 2, 2) from the character to the picture: stretch, then shear, then rotation."""
    angle = _ROTATION * _signed(u[:, 3])
    shear = _SHEAR * _signed(u[:, 4])
    size = _SIZE[0] + (_SIZE[1] - _SIZE[0]) * u[:, 5]
    high, wide = size * (1 + _STRETCH * _signed(u[:, 6])), size * (1 + _STRETCH * _signed(u[:, 7]))
    cos, sin = np.cos(angle), np.sin(angle)
    rows = np.stack([cos * high, -sin * wide + cos * shear * wide], axis=-1)
    columns = np.stack([sin * high, cos * wide + sin * shear * wide], axis=-1)
    return np.stack([rows, columns], axis=1)


def _pen_widths(u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Half the width of the pen (n, 64, 64): one pen a picture, pressed harder here than there."""
    base = _PEN[0] + (_PEN[1] - _PEN[0]) * u[:, 8]
    pressure = _signed(u[:, -16:]).reshape(len(u), 4, 4)
    weights = _spline_weights(4)
    smooth = np.einsum("hi,nij,wj->nhw", weights, pressure, weights, optimize=True)
    widths: NDArray[np.float64] = base[:, None, None] * (1.0 + _PRESSURE * smooth)
    return widths


@functools.cache
def _spline_weights(points: int) -> NDArray[np.float64]:
    """Weights (64, points) that spread values at `points` places over the picture (cubic B-spline)."""
    at = np.arange(SIDE)[:, None] / (SIDE - 1) * (points - 1)
    t = np.abs(at - np.arange(points)[None])
    weight = np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.where(t < 2, (2 - t) ** 3 / 6, 0.0))
    normalised: NDArray[np.float64] = weight / weight.sum(axis=1, keepdims=True)
    return normalised
