"""Means with honest intervals: Student's t, and accuracy by task.

``evaluate`` and ``score`` both end here, in sums that are exact and so independent of order: that is why
they agree to the last digit.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

NORMAL_975 = 1.959963984540054


def task_accuracies(task: Any, correct: Any, known: Any, tasks: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(T,) share of correct answers in each task, NaN where no true label is known.

    Args:
        task: (M,) number of each answer's task.
        correct: (M,) bool.
        known: (M,) bool, whether the true label is known.
        tasks: T.
    """
    asked = np.bincount(np.asarray(task)[np.asarray(known)], minlength=tasks)
    right = np.bincount(np.asarray(task)[np.asarray(known) & np.asarray(correct)], minlength=tasks)
    return np.asarray(np.divide(right, asked, out=np.full(tasks, np.nan), where=asked > 0), dtype=np.float64)


def mean_interval(values: Any) -> tuple[float, float]:
    """Mean and half-width of its 95 % confidence interval (Student's t); NaN values are left out.

    The half-width is NaN for one value, and both are NaN for none.
    """
    known = [float(value) for value in np.asarray(values, dtype=np.float64).reshape(-1) if not math.isnan(value)]
    if not known:
        return math.nan, math.nan
    mean = math.fsum(known) / len(known)
    return mean, half_width(deviation(known, mean), len(known))


def deviation(values: Sequence[float], mean: float) -> float:
    """Standard deviation of values (n - 1 in the denominator); NaN for one value."""
    if len(values) < 2:
        return math.nan
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def half_width(spread: float, count: int) -> float:
    """Of the 95 % interval of a mean of `count` values whose standard deviation is `spread`; NaN for one value."""
    return student_t_975(count - 1) * spread / math.sqrt(count) if count > 1 else math.nan


def mean_variance(values: Any) -> float:
    """Variance of the mean of (n,) values, from their own spread; NaN for one value."""
    known = [float(value) for value in values]
    return deviation(known, math.fsum(known) / len(known)) ** 2 / len(known)


@lru_cache(maxsize=4096)
def student_t_975(degrees: int) -> float:
    """The 97.5 % point of Student's t distribution: half of a 95 % interval lies below it.

    Up to 200 degrees by bisection of the exact distribution function, beyond by its expansion about the
    normal (Abramowitz and Stegun 1964, 26.7.3, 26.7.4, 26.7.5).
    """
    if degrees < 1:
        return math.nan
    if degrees > 200:
        z = NORMAL_975
        terms = (
            (z**3 + z) / 4,
            (5 * z**5 + 16 * z**3 + 3 * z) / 96,
            (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        )
        return float(z + sum(term / degrees**power for power, term in enumerate(terms, 1)))
    low, high = 1.9, 13.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _central_probability(middle, degrees) < 0.95 else (low, middle)
    return (low + high) / 2


def _central_probability(t: float, degrees: int) -> float:
    """P(|T| <= t): a finite sum in the cosine and sine of atan(t / sqrt(degrees))."""
    angle = math.atan(t / math.sqrt(degrees))
    cosine, sine = math.cos(angle), math.sin(angle)
    odd = degrees % 2 == 1
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for k in range(1 + odd, degrees, 2):
        total += term
        term *= cosine * cosine * k / (k + 1)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
