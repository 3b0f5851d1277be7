"""Two methods on the same episodes: the mean difference with its intervals, and what would settle which is better."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from episodes.class_interval import Losses, new_classes_ci95
from episodes.errors import DataError
from episodes.statistics import NORMAL_975, deviation, half_width, mean_interval
from episodes.wording import counted


@dataclass(frozen=True)
class PairedDifference:
    """Mean of a - b over the same episodes, with its 95 % half-widths: over episodes of this pool, and for new classes.

    ``ci95_new_classes``: see :mod:`episodes.class_interval`; NaN where answers by class are not known.
    ``episodes_needed``: how many episodes would settle which is better if mean and spread stay as they are;
    None where no number would, because the mean is 0 (or there is one episode only).
    """

    mean: float
    ci95: float
    episodes: int
    episodes_needed: int | None
    ci95_new_classes: float = math.nan

    @property
    def settled(self) -> bool:
        """Whether the interval over episodes leaves out 0."""
        return abs(self.mean) > self.ci95

    @property
    def settled_for_new_classes(self) -> bool:
        """Whether the interval for new classes is known, and leaves out 0."""
        return abs(self.mean) > self.ci95_new_classes

    def summary(self) -> str:
        """The difference with its interval, and whether it is settled, in a sentence."""
        known = not math.isnan(self.ci95_new_classes)
        pool = " of these classes" if known else ""
        text = f"{self.mean:+.2%} ± {self.ci95:.2%} over {counted(self.episodes, 'episode')}{pool}"
        if not self.settled:
            needed = (
                "no number would settle it" if self.episodes_needed is None else f"about {self.episodes_needed} would"
            )
            text = f"{text}: not settled; {needed}"
        if not known:
            return text
        settled = "settled" if self.settled_for_new_classes else "not settled"
        return f"{text}; ± {self.ci95_new_classes:.2%} for new classes: {settled}"


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
            raise DataError(
                f"a paired difference takes the same episodes twice, but their {name.removesuffix('s')}s differ"
            )
    differences = [float(value) for value in first - second if not math.isnan(value)]
    if not differences:
        raise DataError("a paired difference needs at least one episode with known accuracy in both, found none")
    mean, width = mean_interval(differences)
    needed = _episodes_needed(mean, deviation(differences, mean))
    return PairedDifference(mean, width, len(differences), needed, _for_new_classes(a, b))


def _for_new_classes(a: Any, b: Any) -> float:
    """Half-width of the difference for new classes; NaN unless both are results whose classes are the same."""
    vocabulary = getattr(a, "vocabulary", None)
    if vocabulary is None or vocabulary != getattr(b, "vocabulary", None) or not np.array_equal(a.truth, b.truth):
        return math.nan
    return new_classes_ci95(Losses(a.episode, a.truth, ((1, a.predicted), (-1, b.predicted)), a.classes))


def _episodes_needed(mean: float, spread: float) -> int | None:
    if mean == 0 or math.isnan(spread):
        return None
    count = max(2, math.ceil((NORMAL_975 * spread / abs(mean)) ** 2))
    # Student's t is wider than the normal, by a few episodes where they are few.
    while count < 10_000 and half_width(spread, count) >= abs(mean):
        count += 1
    return count
