"""Unbalanced query sets: how many queries each class gets, drawn from a Dirichlet distribution.

Real query sets are not balanced, and methods that assume balance lose there (Veilleux et al. 2021, "Realistic
evaluation of transductive few-shot learning", arXiv 2106.05321).
"""

from dataclasses import dataclass

import numpy as np

from episodes.counter_random import Int64Array, UInt64Array, bounded, fold
from episodes.errors import UsageError

_UNIT = 4096  # the concentration is rounded to this fraction, so that all weights are integers


@dataclass(frozen=True)
class ShrunkQueries:
    """How much smaller unbalanced query sets became because classes ran out of pictures."""

    episodes: int
    shrunk: int
    asked: int
    given: int

    def summary(self) -> str:
        """One line to tell the user; '' where nothing shrank."""
        if not self.shrunk:
            return ""
        return (
            f"{self.shrunk} of {self.episodes} episodes have fewer queries than asked for, because a class "
            f"had no more pictures: {self.given} queries instead of {self.asked} "
            f"({self.given / self.asked:.0%})"
        )


def check_balance(alpha: float, ways: int, queries: int) -> None:
    """Raise a UsageError unless the concentration can be drawn with."""
    if not 1 / _UNIT <= alpha <= 1000:
        raise UsageError(f"query_balance (the Dirichlet concentration) lies in {1 / _UNIT:.5f}…1000, found {alpha}")
    if ways * (alpha + queries) * _UNIT >= 1 << 32:
        raise UsageError(f"too many queries for an unbalanced draw: {ways} ways of {queries} queries")


def unbalanced_counts(
    states: UInt64Array, n_way: Int64Array, caps: Int64Array, total: Int64Array, alpha: float
) -> Int64Array:
    """Queries of each class: multinomial over proportions from Dirichlet(alpha, …, alpha).

    Drawn as Pólya's urn: each query falls on class c with probability (alpha + queries of c so far) /
    (N·alpha + queries so far). That has exactly this distribution and needs integers only: no logarithm or
    power, whose last digits differ between platforms. An episode ends at the first query that its class has
    no picture for, so its proportions stay those that were drawn and only its total shrinks.

    Args:
        states: (T,) streams.
        n_way: (T,) ways; places beyond get nothing.
        caps: (T, N) most queries a class can give, at least 1 within ``n_way``.
        total: (T,) queries wanted.
        alpha: concentration: 1 is uniform over all proportions, larger is more balanced.

    Returns:
        (T, N) int64.
    """
    tasks = np.arange(len(states))
    real = np.arange(caps.shape[1]) < n_way[:, None]
    weights = np.where(real, max(1, round(alpha * _UNIT)), 0).astype(np.int64)
    counts = np.zeros_like(caps, dtype=np.int64)
    active = np.ones(len(states), dtype=np.bool_)
    for drawn in range(int(total.max(initial=0))):
        cumulative = np.cumsum(weights, axis=1)
        point = bounded(fold(states, drawn), cumulative[:, -1])
        chosen = (cumulative <= point[:, None]).sum(axis=1)
        active &= (drawn < total) & (counts[tasks, chosen] < caps[tasks, chosen])
        if not active.any():
            break
        counts[tasks[active], chosen[active]] += 1
        weights[tasks[active], chosen[active]] += _UNIT
    return counts
