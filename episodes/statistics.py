"""Means with honest intervals: Student's t, paired differences, and accuracy by task.

``evaluate`` and ``score`` both end here, in sums that are exact and so independent of order: that is why
they agree to the last digit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from episodes.errors import DataError
from episodes.wording import counted

_NORMAL_975 = 1.959963984540054


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
    return mean, _half_width(_deviation(known, mean), len(known))


def _deviation(values: Sequence[float], mean: float) -> float:
    if len(values) < 2:
        return math.nan
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _half_width(deviation: float, count: int) -> float:
    return student_t_975(count - 1) * deviation / math.sqrt(count) if count > 1 else math.nan


@dataclass(frozen=True)
class PairedDifference:
    """Mean of a - b over the same episodes, with its 95 % half-width.

    ``episodes_needed``: how many episodes would settle which is better if mean and spread stay as they are;
    None where no number would, because the mean is 0 (or there is one episode only).
    """

    mean: float
    ci95: float
    episodes: int
    episodes_needed: int | None

    @property
    def settled(self) -> bool:
        """Whether the interval leaves out 0."""
        return abs(self.mean) > self.ci95

    def summary(self) -> str:
        """The difference with its interval, and whether it is settled, in a sentence."""
        text = f"{self.mean:+.2%} ± {self.ci95:.2%} over {counted(self.episodes, 'episode')}"
        if self.settled:
            return text
        needed = "no number would settle it" if self.episodes_needed is None else f"about {self.episodes_needed} would"
        return f"{text}: not settled; {needed}"


def paired_difference(a: Any, b: Any) -> PairedDifference:
    """Compare two methods on the same episodes.

    Args:
        a: :class:`~episodes.results.Results`, or (T,) accuracies; NaN (unknown) in either is left out.
        b: the other method, on the same episodes.

    Raises:
        DataError: the episodes are not the same, or none has a known accuracy in both.
    """
    first, second = np.asarray(getattr(a, "accuracy", a), float), np.asarray(getattr(b, "accuracy", b), float)
    if first.shape != second.shape or first.ndim != 1:
        raise DataError(f"a paired difference takes the same episodes twice, found {first.shape} and {second.shape}")
    for name in ("names", "episode", "row"):
        if hasattr(a, name) and hasattr(b, name) and not np.array_equal(getattr(a, name), getattr(b, name)):
            raise DataError(f"a paired difference takes the same episodes twice, but their {name}s differ")
    differences = [float(value) for value in first - second if not math.isnan(value)]
    if not differences:
        raise DataError("a paired difference needs at least one episode with known accuracy in both, found none")
    mean, half_width = mean_interval(differences)
    needed = _episodes_needed(mean, _deviation(differences, mean))
    return PairedDifference(mean, half_width, len(differences), needed)


def _episodes_needed(mean: float, deviation: float) -> int | None:
    if mean == 0 or math.isnan(deviation):
        return None
    count = max(2, math.ceil((_NORMAL_975 * deviation / abs(mean)) ** 2))
    # Student's t is wider than the normal, by a few episodes where they are few.
    while count < 10_000 and _half_width(deviation, count) >= abs(mean):
        count += 1
    return count


@lru_cache(maxsize=4096)
def student_t_975(degrees: int) -> float:
    """The 97.5 % point of Student's t distribution: half of a 95 % interval lies below it.

    Up to 200 degrees by bisection of the exact distribution function, beyond by its expansion about the
    normal (Abramowitz and Stegun 1964, 26.7.3, 26.7.4, 26.7.5).
    """
    if degrees < 1:
        return math.nan
    if degrees > 200:
        z = _NORMAL_975
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
