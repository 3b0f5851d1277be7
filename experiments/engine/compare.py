"""Two conditions on the same episodes with several seeds: their difference with both sources of spread, and Holm's correction.

S seeds, E episodes of a set, K sets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from episodes.errors import DataError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """Mean of a - b, with its 95 % half-width.

    Attributes:
        mean: Over seeds and episodes; over sets with equal weight.
        ci95: Half-width, from the spread between seeds and that between episodes.
        p: Of no difference, two-sided, by the same interval.
        seeds: S; with 1 the spread between seeds is not in `ci95`.
        episodes: Over all sets.
        seed_spread: Standard deviation between seeds; NaN for one.
    """

    mean: float
    ci95: float
    p: float
    seeds: int
    episodes: int
    seed_spread: float


def difference(pairs: Sequence[tuple[Any, Any]], *, same_episodes: bool = True) -> Difference:
    """Put paired differences together over seeds, episodes and sets.

    Seeds and episodes are crossed: every seed's run is measured on the same episodes. The variance of the mean has a part that only
    more seeds make smaller and one that only more episodes do. Their half-widths by Student's t add up as squares (modified
    large-sample limits: Graybill and Wang 1980, Journal of the American Statistical Association 75, 869), which covers with two or three
    seeds too; Satterthwaite's degrees of freedom do not.

    Args:
        pairs: For each of K sets accuracies of a and of b, (S, E) each; an untouched encoder has (1, E), the same for every seed. An
            episode that is NaN anywhere is left out.
        same_episodes: False where every seed has episodes of its own: then each seed's mean is one observation.

    Returns:
        The difference.

    Raises:
        DataError: There are no sets, or no episode is known in both.
    """
    sets = [_known(np.atleast_2d(np.asarray(a, float)) - np.atleast_2d(np.asarray(b, float))) for a, b in pairs]
    if not sets or any(each.shape[1] == 0 for each in sets):
        raise DataError("a comparison needs at least one episode with known accuracy in both, found none")
    by_seed = np.mean([each.mean(axis=1) for each in sets], axis=0)
    seeds, episodes = len(by_seed), min(each.shape[1] for each in sets)
    mean, weight = float(by_seed.mean()), 1 / len(sets) ** 2
    between = float(by_seed.var(ddof=1)) / seeds if seeds > 1 else 0.0
    within = sum(weight * max(_of_episodes(each) - _of_the_rest(each), 0.0) for each in sets)
    if not same_episodes and seeds > 1:
        within = 0.0
    parts = [(between, seeds - 1), (within, episodes - 1)]
    spread = math.sqrt(between * seeds) if seeds > 1 else math.nan
    total = sum(each.shape[1] for each in sets)
    return Difference(mean, _half_width(parts, 0.05), _p_value(parts, mean), seeds, total, spread)


def _known(values: Floats) -> Floats:
    return values[:, ~np.isnan(values).any(axis=0)]


def _of_episodes(values: Floats) -> float:
    """Variance of the mean by the spread of the episodes' means."""
    count = values.shape[1]
    return float(values.mean(axis=0).var(ddof=1) / count) if count > 1 else math.nan


def _of_the_rest(values: Floats) -> float:
    """The part of it that neither seed nor episode explains; the spread between seeds holds it as well."""
    seeds, episodes = values.shape
    if seeds < 2 or episodes < 2:
        return 0.0
    rest = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0, keepdims=True) + values.mean()
    return float((rest**2).sum() / ((seeds - 1) * (episodes - 1)) / (seeds * episodes))


def _half_width(parts: Sequence[tuple[float, int]], level: float) -> float:
    """Half-width at an error probability: the parts' own half-widths, added as squares."""
    from scipy.stats import t

    widths = [float(t.isf(level / 2, freedom)) * math.sqrt(part) for part, freedom in parts if part > 0]
    return float(math.hypot(*widths))


def _p_value(parts: Sequence[tuple[float, int]], mean: float) -> float:
    """The level at which the interval just touches 0."""
    from scipy.optimize import brentq

    if any(math.isnan(part) for part, _ in parts):
        return math.nan
    if mean == 0:
        return 1.0
    if all(part == 0 for part, _ in parts):
        return 0.0

    def beyond(log_level: float) -> float:
        return _half_width(parts, math.exp(log_level)) - abs(mean)

    lowest = math.log(1e-300)
    if beyond(lowest) < 0:
        return 0.0
    return float(math.exp(brentq(beyond, lowest, 0.0)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Holm 1979, A simple sequentially rejective multiple test procedure).

    Args:
        p_values: Of a family of comparisons; NaN stays NaN and counts as none.

    Returns:
        Corrected ones, in the same order: those below 0.05 are real at a 5 % chance of any false one.
    """
    known = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    corrected, highest = [math.nan] * len(p_values), 0.0
    for rank, (p, place) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        corrected[place] = highest
    return corrected
