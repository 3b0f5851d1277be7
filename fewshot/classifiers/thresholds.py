"""The confidence that only a share of foreign pictures reaches, when neither they nor the task's classes have set it.

A quantile of what few classes show is now below, now above that of all classes. Where it is below, the share that reaches it is too large
by more than it is too small where it is above: on new classes the share is too large on the mean. So the level of the quantile is
cross-fitted: thresholds set on one half of the classes are tried on the other half.

R shares, L levels of quantiles, C sizes of tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from fewshot.classifiers.answers import Answers, fit_surfaces
from fewshot.classifiers.confidence import RATES, log_odds
from fewshot.classifiers.surface import Floats, Surface, evaluate_all

Split = tuple[Sequence[Answers], Sequence[Answers]]
"""Answers on one half of the classes, which set thresholds, and on the other half, which tries them."""
LEVELS = (0.001, 0.002, *RATES, 0.99)
"""Of quantiles that are tried on the other half."""
_OF_A_HALF = 0.5
"""Twice as many classes, half the excess: it goes with the variance of a threshold, one over the classes behind it."""


def measure_thresholds(
    answers: Sequence[Answers], splits: Sequence[Split], temperatures: Surface
) -> tuple[tuple[Surface, ...], tuple[Surface, ...]]:
    """Thresholds for the shares of `RATES`, and what they cost.

    Args:
        answers: on all classes; they set the thresholds.
        splits: answers on halves of the classes, which tell the levels of the quantiles; without any these are the shares themselves.
        temperatures: of the confidence.

    Returns:
        R surfaces of the log-odds of confidence that only that share of foreign queries reaches, and R of the log-odds of the share of
        own queries that do not.
    """
    excess = excess_on_other_half(splits, temperatures) if splits else ()
    levels = np.stack([cross_fitted_levels(each.ways, each.shots, excess) for each in answers])  # (C, R)
    thresholds = quantile_surfaces(levels, answers, temperatures)
    refused = [
        (each.known_odds(temperatures)[:, None] < evaluate_all(thresholds, each.ways, each.shots)).mean(0)
        for each in answers
    ]
    costs = fit_surfaces(log_odds(np.clip(refused, 1e-3, 1 - 1e-3)), answers, 3)
    return thresholds, costs


def quantile_surfaces(levels: Floats, answers: Sequence[Answers], temperatures: Surface) -> tuple[Surface, ...]:
    """L surfaces of the log-odds that a share of these answers' own foreign queries reaches, for shares (C, L) at each size."""
    quantiles = [
        np.quantile(each.foreign_odds(temperatures), 1 - row) for each, row in zip(answers, levels, strict=True)
    ]
    return fit_surfaces(np.stack(quantiles), answers, 3)


def excess_on_other_half(splits: Sequence[Split], temperatures: Surface) -> tuple[Surface, ...]:
    """L surfaces: by how much the share that reaches one half's quantiles of `LEVELS` is larger on the other half, in log-odds."""
    levels = np.array(LEVELS)
    found: dict[tuple[int, int], list[npt.NDArray[np.bool_]]] = {}
    tried: dict[tuple[int, int], Answers] = {}
    for fitted, other in splits:
        thresholds = quantile_surfaces(np.tile(levels, (len(fitted), 1)), fitted, temperatures)
        for each in other:
            needed = evaluate_all(thresholds, each.ways, each.shots)
            found.setdefault((each.ways, each.shots), []).append(each.foreign_odds(temperatures)[:, None] >= needed)
            tried[each.ways, each.shots] = each
    reached = [np.concatenate(parts) for parts in found.values()]  # (O, L) each
    # Half a query more that reaches it, and half a one that does not: none of few is no share of 0.
    shares = np.stack([(each.sum(0) + 0.5) / (len(each) + 1) for each in reached])
    excess = log_odds(shares) - log_odds(levels)  # (C, L)
    return fit_surfaces(excess, list(tried.values()), 2)


def cross_fitted_levels(ways: float, shots: float, excess: Sequence[Surface]) -> Floats:
    """(R,) levels of quantiles of all classes, such that on other classes the shares of `RATES` reach them.

    Args:
        ways: of the tasks.
        shots: of the tasks.
        excess: L, of the quantiles of one half on the other half; where there are none the levels are the shares.
    """
    if not excess:
        return np.array(RATES)
    levels = log_odds(LEVELS)
    reached = levels + _OF_A_HALF * evaluate_all(excess, ways, shots)
    return np.asarray(expit(np.interp(log_odds(RATES), np.maximum.accumulate(reached), levels)))
