"""Which answers a person should look at first: mistakes the program was sure of, or, where truth is unknown, what it is least sure of.

M answers. Orders are arrays of positions in the results; ties keep the order of the CSV.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from episodes import UNKNOWN, Results

Int64Array = np.ndarray[Any, np.dtype[np.int64]]


def confident_mistakes(results: Results) -> Int64Array:
    """The wrong answers, the most confident first; pictures without an answer are none of them."""
    wrong = (results.predicted >= 0) & (results.truth != UNKNOWN) & (results.predicted != results.truth)
    return _ordered(np.flatnonzero(wrong), -results.confidence.astype(np.float64))


def least_sure(results: Results) -> Int64Array:
    """All answers, the least confident first; pictures without an answer are none of them."""
    return _ordered(np.flatnonzero(results.predicted >= 0), results.confidence.astype(np.float64))


def telling(results: Results) -> Int64Array:
    """All M: confident mistakes, then the other answers by how unsure they are, then pictures without an answer."""
    mistakes = confident_mistakes(results)
    unsure = least_sure(results)
    others = unsure[~np.isin(unsure, mistakes, assume_unique=True)]
    return np.concatenate([mistakes, others, np.flatnonzero(results.predicted < 0)])


def _ordered(positions: Int64Array, key: np.ndarray[Any, np.dtype[np.float64]]) -> Int64Array:
    return np.asarray(positions[np.argsort(key[positions], kind="stable")], dtype=np.int64)
