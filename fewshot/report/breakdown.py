"""Accuracy taken apart: by the number of ways and shots, and by confidence (a reliability diagram)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from episodes import UNKNOWN, Results, mean_interval
from fewshot.report.estimate import wilson_interval
from fewshot.report.numbers import TaskNumbers


@dataclass(frozen=True)
class SettingAccuracy:
    """The tasks of one way and shot: how many, and their mean accuracy with its 95 % interval over tasks."""

    ways: int
    shots: str
    tasks: int
    accuracy: float
    ci95: float


def by_setting(tasks: Sequence[TaskNumbers]) -> list[SettingAccuracy]:
    """Accuracy by (ways, shots), fewest first; empty where no truth is known. Unequal shots read "1–5"."""
    found: dict[tuple[int, int, int], list[float]] = {}
    for task in tasks:
        if len(task.shots) and not np.isnan(task.accuracy):
            key = (len(task.shots), int(task.shots.min()), int(task.shots.max()))
            found.setdefault(key, []).append(task.accuracy)
    settings = []
    for (ways, low, high), accuracies in sorted(found.items()):
        mean, ci95 = mean_interval(accuracies)
        shots = str(low) if low == high else f"{low}–{high}"
        settings.append(SettingAccuracy(ways, shots, len(accuracies), mean, ci95))
    return settings


@dataclass(frozen=True)
class Reliability:
    """The answers of one range of confidence: how sure they are on average, and how often they are right.

    Attributes:
        low, high: the range.
        pictures: how many answers with a known truth.
        confidence: their mean.
        accuracy: share of right ones.
        interval: its 95 % interval over pictures (Wilson).
    """

    low: float
    high: float
    pictures: int
    confidence: float
    accuracy: float
    interval: tuple[float, float]


def reliability(results: Results, bins: int = 10) -> list[Reliability]:
    """The ranges of equal width that hold an answer; empty where no truth is known."""
    known = (results.truth != UNKNOWN) & (results.predicted >= 0)
    # float32 rounds a sure answer to a hair above 1
    sure = np.minimum(results.confidence[known].astype(np.float64), 1.0)
    right = (results.predicted == results.truth)[known]
    where = np.minimum((sure * bins).astype(np.int64), bins - 1)
    found = []
    for place in np.unique(where).tolist():
        here = where == place
        hits, total = int(right[here].sum()), int(here.sum())
        found.append(
            Reliability(
                place / bins,
                (place + 1) / bins,
                total,
                float(sure[here].mean()),
                hits / total,
                wilson_interval(hits, total),
            )
        )
    return found
