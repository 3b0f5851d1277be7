"""What a page says in numbers: each task, each class, and how confidences are spread. No pictures, no HTML.

T tasks, M answers in all, N ways.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from episodes import OUTSIDE, UNKNOWN, Episode, Results
from fewshot.classifiers.base import Classifier
from fewshot.embedding.embed import Progress
from fewshot.predict import Prediction
from fewshot.report.estimate import Estimate, estimate_task

NO_ANSWER = "(no answer)"
NONE_OF_THEM = "(none of the classes)"
Int64Array = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, eq=False)
class TaskNumbers:
    """One task.

    Attributes:
        episode: the task itself.
        answers: positions of its answers in the results.
        shots: (N,) support pictures of each class, readable or not.
        shares: how often each class was answered: all of the task's classes, then whatever else was answered.
        mean_confidence: over its answers; NaN where there is none.
        accuracy: NaN where the truth is unknown.
        estimate: label-free; None where there is none.
    """

    episode: Episode
    answers: slice
    shots: Int64Array
    shares: tuple[tuple[str, int], ...]
    mean_confidence: float
    accuracy: float
    estimate: Estimate | None


def number_tasks(
    prediction: Prediction,
    classifier: Classifier | None = None,
    progress: Progress | None = None,
) -> list[TaskNumbers]:
    """The numbers of every task, in the order of the CSV; estimates where there is a `classifier`."""
    results = prediction.results
    ends = np.searchsorted(results.episode, np.arange(len(prediction.episodes)), side="right").tolist()
    numbers = []
    for position, episode in enumerate(prediction.episodes):
        answers = slice(ends[position - 1] if position else 0, ends[position])
        sure = results.confidence[answers].astype(np.float64)
        answered = ~np.isnan(sure)
        estimate = None
        if classifier is not None and episode.class_names:
            estimate = estimate_task(episode, prediction.embeddings, classifier)
        numbers.append(
            TaskNumbers(
                episode,
                answers,
                np.bincount(episode.support_labels, minlength=len(episode.class_names)),
                _shares(episode, results, answers),
                float(sure[answered].mean()) if answered.any() else math.nan,
                float(results.accuracy[position]),
                estimate,
            )
        )
        if progress is not None:
            progress(position + 1, len(prediction.episodes))
    return numbers


def least_confident(tasks: Sequence[TaskNumbers], most: int) -> list[TaskNumbers]:
    """The tasks with the lowest mean confidence, those without any answer first; ties keep their order."""

    def key(task: TaskNumbers) -> float:
        return -1.0 if math.isnan(task.mean_confidence) else task.mean_confidence

    return sorted(tasks, key=key)[:most]


def _shares(episode: Episode, results: Results, answers: slice) -> tuple[tuple[str, int], ...]:
    given = Counter(answer_name(results, i) for i in range(answers.start, answers.stop))
    own = [(name, given.pop(name, 0)) for name in episode.class_names]
    return (*own, *sorted(given.items()))


def answer_name(results: Results, i: int) -> str:
    """The name that answer `i` gives."""
    answer = int(results.predicted[i])
    return results.vocabulary[answer] if answer >= 0 else NO_ANSWER


def true_name(results: Results, i: int) -> str | None:
    """The true name of answer `i`'s picture; None where it is unknown."""
    truth = int(results.truth[i])
    if truth == UNKNOWN:
        return None
    return NONE_OF_THEM if truth == OUTSIDE else results.vocabulary[truth]


@dataclass(frozen=True, eq=False)
class Confusion:
    """counts[i, j]: how many pictures of class truths[i] were named answers[j]."""

    truths: tuple[str, ...]
    answers: tuple[str, ...]
    counts: Int64Array

    @property
    def mistakes(self) -> list[tuple[str, str, int]]:
        """(truth, answer, how often), the most frequent first."""
        found = [
            (truth, answer, int(self.counts[i, j]))
            for i, truth in enumerate(self.truths)
            for j, answer in enumerate(self.answers)
            if truth != answer and self.counts[i, j]
        ]
        return sorted(found, key=lambda mistake: -mistake[2])


def confusion(results: Results, answers: slice, names: tuple[str, ...]) -> Confusion | None:
    """Truth against answer for some of the results; None where no truth is known.

    Args:
        results: of the prediction.
        answers: which of the results.
        names: the classes in the order to show; what else occurs follows.
    """
    known = [i for i in range(answers.start, answers.stop) if results.truth[i] != UNKNOWN]
    if not known:
        return None
    pairs = Counter((str(true_name(results, i)), answer_name(results, i)) for i in known)
    truths = (*names, *sorted({truth for truth, _ in pairs} - set(names)))
    given = (*names, *sorted({answer for _, answer in pairs} - set(names)))
    counts = np.array([[pairs[truth, answer] for answer in given] for truth in truths], dtype=np.int64)
    return Confusion(truths, given, counts)


@dataclass(frozen=True)
class ClassNumbers:
    """One class over all tasks: how many of its pictures were asked about, named rightly, and mostly taken for what."""

    name: str
    pictures: int
    right: int
    mistaken_for: tuple[tuple[str, int], ...]

    @property
    def accuracy(self) -> float:
        """Share of its pictures that are named rightly."""
        return self.right / self.pictures


def number_classes(results: Results) -> list[ClassNumbers]:
    """Every class whose truth is known somewhere, the worst first; empty where no truth is known."""
    given: dict[str, Counter[str]] = {}
    for i in np.flatnonzero(results.truth != UNKNOWN).tolist():
        given.setdefault(str(true_name(results, i)), Counter())[answer_name(results, i)] += 1
    found = []
    for name, answers in given.items():
        wrong = sorted(((other, n) for other, n in answers.items() if other != name), key=lambda e: (-e[1], e[0]))
        found.append(ClassNumbers(name, sum(answers.values()), answers[name], tuple(wrong[:3])))
    return sorted(found, key=lambda entry: (entry.accuracy, entry.name))


@dataclass(frozen=True, eq=False)
class Histogram:
    """Answers by confidence, in bins of equal width from 0 to 1: named rightly, wrongly, and of unknown truth."""

    right: Int64Array
    wrong: Int64Array
    unknown: Int64Array

    @property
    def total(self) -> Int64Array:
        """Answers in each bin."""
        return np.asarray(self.right + self.wrong + self.unknown)


def histogram(results: Results, bins: int = 20) -> Histogram:
    """How the confidences are spread; pictures without an answer are left out."""
    answered = ~np.isnan(results.confidence)
    sure = results.confidence[answered].astype(np.float64)
    where = np.clip((sure * bins).astype(np.int64), 0, bins - 1)
    truth, right = results.truth[answered], (results.predicted == results.truth)[answered]
    parts = (right & (truth != UNKNOWN), ~right & (truth != UNKNOWN), truth == UNKNOWN)
    return Histogram(*(np.bincount(where[part], minlength=bins).astype(np.int64) for part in parts))
