"""Which pictures go into a page, and in which order they are given room: every task and every class gets its share.

A page with all pictures of a thousand tasks would weigh hundreds of megabytes. What a person should look at first comes first,
over all tasks; then a few answers of every class; then one picture after the other of every task, in turn, until room is spent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, zip_longest

import numpy as np

from fewshot.predict import Prediction
from fewshot.report.numbers import TaskNumbers
from fewshot.report.telling import confident_mistakes, least_sure, telling
from fewshot.report.thumbnails import BudgetSpent, Thumbnails

MOST_FIRST = 120  # pictures of confident mistakes, and as many of least sure answers, over all tasks
MOST_OF_CLASS, MOST_OF_CLASSES = 4, 1000  # answers of each class, and of all classes together
MOST_SUPPORTS, MOST_QUERIES = 60, 60  # of a task
MOST_SHOWN = (
    25_000  # answers and supports of all tasks together: a picture costs bytes once, but every showing costs a line
)


@dataclass(frozen=True)
class Selection:
    """What a page shows in pictures.

    Attributes:
        answers: positions in the results, ascending.
        supports: task -> positions in its episode's support, ascending.
    """

    answers: tuple[int, ...]
    supports: dict[int, tuple[int, ...]]


@dataclass
class _Chosen:
    answers: set[int] = field(default_factory=set)
    supports: dict[int, set[int]] = field(default_factory=dict)


def select(prediction: Prediction, tasks: Sequence[tuple[int, TaskNumbers]], thumbnails: Thumbnails) -> Selection:
    """Choose until the thumbnails' budget is spent.

    Args:
        prediction: with its results.
        tasks: those that can be looked at one by one, each with its number; answers of others are shown among all.
        thumbnails: makes the pictures, each once however often it is shown.
    """
    results = prediction.results
    chosen = _Chosen()
    try:
        for i in chain(_first(prediction), islice(_of_classes(prediction), MOST_OF_CLASSES)):
            thumbnails.add(int(results.row[i]))
            chosen.answers.add(i)
        for task, answer, support in islice(_in_turn(prediction, tasks), MOST_SHOWN):
            if answer is not None:
                thumbnails.add(int(results.row[answer]))
                chosen.answers.add(answer)
            elif support is not None:
                thumbnails.add(int(prediction.episodes[task].support[support]))
                chosen.supports.setdefault(task, set()).add(support)
    except BudgetSpent:
        pass
    return Selection(
        tuple(sorted(chosen.answers)), {task: tuple(sorted(found)) for task, found in sorted(chosen.supports.items())}
    )


def rows_wanted(prediction: Prediction, tasks: Sequence[tuple[int, TaskNumbers]]) -> int:
    """How many distinct pictures a page without any limit on their bytes would show."""
    results = prediction.results
    rows = {int(results.row[i]) for i in chain(_first(prediction), islice(_of_classes(prediction), MOST_OF_CLASSES))}
    for number, task in tasks:
        rows.update(results.row[task.answers][:MOST_QUERIES].tolist())
        rows.update(prediction.episodes[number].support[:MOST_SUPPORTS].tolist())
    return len(rows)


def _first(prediction: Prediction) -> Iterator[int]:
    """The most confident mistakes and the least sure answers of all tasks."""
    results = prediction.results
    for order in (confident_mistakes(results), least_sure(results)):
        seen: set[int] = set()  # a picture that many episodes ask about is shown once
        for i in order.tolist():
            if len(seen) == MOST_FIRST:
                break
            if int(results.row[i]) not in seen:
                seen.add(int(results.row[i]))
                yield i


def _of_classes(prediction: Prediction) -> Iterator[int]:
    """The first answers of each class, by truth and by answer."""
    results = prediction.results
    of_truth: Counter[int] = Counter()
    of_answer: Counter[int] = Counter()
    for i in telling(results).tolist():
        truth, answer = int(results.truth[i]), int(results.predicted[i])
        if answer < 0:
            return  # those without an answer are last
        if of_truth[truth] < MOST_OF_CLASS or of_answer[answer] < MOST_OF_CLASS:
            of_truth[truth] += 1
            of_answer[answer] += 1
            yield i


def _in_turn(
    prediction: Prediction, tasks: Sequence[tuple[int, TaskNumbers]]
) -> Iterator[tuple[int, int | None, int | None]]:
    """(task, answer or None, support or None): the first of every task, then the second of every task, ..."""
    place = np.empty(len(prediction.results.row), dtype=np.int64)  # of each answer among all, the most telling first
    place[telling(prediction.results)] = np.arange(len(place))
    queues = [(number, _of_task(prediction, number, task, place)) for number, task in tasks]
    while queues:
        left = []
        for number, queue in queues:
            found = next(queue, None)
            if found is not None:
                yield number, *found
                left.append((number, queue))
        queues = left


def _of_task(
    prediction: Prediction, number: int, task: TaskNumbers, place: np.ndarray
) -> Iterator[tuple[int | None, int | None]]:
    """One task's answers, the most telling first, and its support, class by class, in turn."""
    answers = (task.answers.start + np.argsort(place[task.answers])).tolist()[:MOST_QUERIES]
    supports = _supports_in_turn(prediction, number, task)[:MOST_SUPPORTS]
    for answer, support in zip_longest(answers, supports):
        if answer is not None:
            yield answer, None
        if support is not None:
            yield None, support


def _supports_in_turn(prediction: Prediction, number: int, task: TaskNumbers) -> list[int]:
    """Positions in the support: one of each class, then another of each; those that the others misname come first."""
    episode = prediction.episodes[number]
    misnamed = task.estimate.misnamed if task.estimate else {}
    seen: Counter[int] = Counter()
    order = sorted(range(len(episode.support)), key=lambda i: int(episode.support[i]) not in misnamed)
    turns = []
    for i in order:
        label = int(episode.support_labels[i])
        turns.append((seen[label], label, i))
        seen[label] += 1
    return [i for _, _, i in sorted(turns)]
