"""From the accuracy at k - 1 shots to that at k: what a picture that was left out would have added.

A query meets its own class's score and those of N - 1 rivals. With normal scores of one spread, whose true class stands d higher, the
accuracy is the chance that the highest is the true one (N-alternative forced choice: Green and Swets, Signal Detection Theory
and Psychophysics, 1966). A class's mean of k pictures is off by chance, which adds to that spread a part in proportion to 1 / k: d grows
with the root of (1 + r / (k - 1)) / (1 + r / k).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

SUPPORT_NOISE = 3.0
"""r: how much one support picture's chance adds to a query's; 1 in few dimensions, more in many. Chosen on tin val and omniglot base."""
_STEPS = np.linspace(0, 12, 2401)  # of d
_GRID = np.linspace(-8, 20, 1401)  # of the true class's score


def accuracy_with_one_more(accuracy: float, n_way: int, shots: float) -> float:
    """What to expect at `shots` a class where one fewer gave `accuracy`.

    Args:
        accuracy: share of right answers, at chance or better; below chance nothing is added.
        n_way: N.
        shots: k, at least 2; the mean over the classes where they differ.
    """
    curve = _accuracies(n_way)
    if n_way < 2 or not 1 / n_way < accuracy < curve[-1]:
        return accuracy
    separation = float(np.interp(accuracy, curve, _STEPS))
    grown = separation * math.sqrt((1 + SUPPORT_NOISE / (shots - 1)) / (1 + SUPPORT_NOISE / shots))
    return float(np.interp(grown, _STEPS, curve))


@lru_cache(maxsize=64)
def _accuracies(n_way: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The accuracy at every d of `_STEPS`: the mean of Phi(x)^(N - 1) over x from N(d, 1)."""
    below = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in _GRID]) ** (n_way - 1)
    density = np.exp(-0.5 * (_GRID[:, None] - _STEPS) ** 2)
    return np.asarray((below[:, None] * density).sum(0) / density.sum(0))
