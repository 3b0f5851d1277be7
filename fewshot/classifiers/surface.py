"""A number as a smooth function of a task's ways and shots.

How sure a classifier should be depends on both: few shots make poor prototypes, many ways make many rivals. Over log ways and log shots
the dependence is nearly straight, so a few coefficients, fitted on all sizes together, tell a size better than its own episodes would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
TERMS = {2: 6, 3: 10}
"""Degree of a polynomial in log ways and log shots -> how many terms it has."""


@dataclass(frozen=True)
class Surface:
    """c0 + c1 w + c2 s + c3 w^2 + c4 w s + c5 s^2 with w = log(ways) and s = log(shots), within the sizes that it was fitted on.

    With ten coefficients, + c6 w^3 + c7 w^2 s + c8 w s^2 + c9 s^3. A task beyond the sizes counts as the nearest size within: a polynomial
    tells nothing about what lies outside.

    Attributes:
        coefficients: c0 to c5, or to c9.
        ways: Fewest and most that it was fitted on.
        shots: Fewest and most that it was fitted on.
    """

    coefficients: tuple[float, ...]
    ways: tuple[float, float]
    shots: tuple[float, float]

    def __call__(self, ways: npt.ArrayLike, shots: npt.ArrayLike) -> Floats:
        """Evaluate it.

        Args:
            ways: (T,) or a number.
            shots: As many.

        Returns:
            As many values.
        """
        value: Floats = evaluate_all([self], ways, shots)[0]
        return value


def evaluate_all(surfaces: Sequence[Surface], ways: npt.ArrayLike, shots: npt.ArrayLike) -> Floats:
    """What L surfaces give that were fitted on the same sizes: (L, T) for T ways and shots, (L,) for two numbers."""
    known = surfaces[0]
    ways, shots = np.asarray(ways, dtype=np.float64), np.asarray(shots, dtype=np.float64)
    terms = design(np.clip(ways, *known.ways), np.clip(shots, *known.shots))
    coefficients = np.array([each.coefficients for each in surfaces], dtype=np.float64)  # (L, 6) or (L, 10)
    values: Floats = coefficients @ terms[..., : coefficients.shape[1]].T
    return values


def design(ways: npt.ArrayLike, shots: npt.ArrayLike) -> Floats:
    """The terms (..., 10) that a surface's coefficients multiply, those of degree 2 first."""
    w, s = np.log(np.asarray(ways, dtype=np.float64)), np.log(np.asarray(shots, dtype=np.float64))
    return np.stack([np.ones_like(w), w, s, w**2, w * s, s**2, w**3, w**2 * s, w * s**2, s**3], axis=-1)
