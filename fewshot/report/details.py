"""What a page shows of a task in pictures: its support by class, and its queries, the least confident first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fewshot.predict import Prediction
from fewshot.report.numbers import Confusion, TaskNumbers, answer_name, confusion, true_name
from fewshot.report.thumbnails import BudgetSpent, Thumbnails

MOST_TASKS, MOST_SUPPORTS, MOST_QUERIES = 60, 60, 60


@dataclass(frozen=True)
class Picture:
    """One support picture; `uri` is None where it cannot be read, `misnamed` is what the others would call it."""

    name: str
    uri: str | None
    misnamed: str | None = None


@dataclass(frozen=True)
class SupportClass:
    """The pictures of one class that are shown, and how many more there are."""

    name: str
    pictures: tuple[Picture, ...]
    more: int


@dataclass(frozen=True)
class Query:
    """One query with its answer; `label` is None where there is none, `truth` where it is unknown."""

    name: str
    uri: str | None
    label: str | None
    confidence: float
    truth: str | None

    @property
    def right(self) -> bool | None:
        """None where the truth is unknown."""
        return None if self.truth is None else self.truth == self.label


@dataclass(frozen=True)
class TaskDetail:
    """One task in pictures, and how many were left out of each kind; `more_wrong` is None where truth is unknown."""

    numbers: TaskNumbers
    support: tuple[SupportClass, ...]
    more_classes: int
    queries: tuple[Query, ...]
    more_queries: int
    more_wrong: int | None
    confusion: Confusion | None


def choose_details(prediction: Prediction, tasks: Sequence[TaskNumbers], budget: int) -> list[TaskDetail]:
    """As many tasks as the limits allow, the least confident ones, in the order of the CSV.

    Where a task's pictures no longer fit into `budget` bytes, it and all more confident ones are left out.
    """
    thumbnails = Thumbnails(prediction.table.items, budget)
    chosen: list[TaskDetail] = []
    for task in least_confident(tasks, MOST_TASKS):
        try:
            chosen.append(_detail(prediction, task, thumbnails))
        except BudgetSpent:
            break
    return sorted(chosen, key=lambda detail: detail.numbers.answers.start)


def least_confident(tasks: Sequence[TaskNumbers], most: int) -> list[TaskNumbers]:
    """The tasks with the lowest mean confidence, those without any answer first; ties keep their order."""

    def key(task: TaskNumbers) -> float:
        return -1.0 if math.isnan(task.mean_confidence) else task.mean_confidence

    return sorted(tasks, key=key)[:most]


def _detail(prediction: Prediction, task: TaskNumbers, thumbnails: Thumbnails) -> TaskDetail:
    results, table, episode = prediction.results, prediction.table, task.episode
    sure = np.nan_to_num(results.confidence[task.answers], nan=-1.0)
    order = task.answers.start + np.argsort(sure, kind="stable")
    queries = []
    for i in order[:MOST_QUERIES].tolist():
        row = int(results.row[i])
        label = answer_name(results, i) if results.predicted[i] >= 0 else None
        queries.append(
            Query(
                table.image_name(row), thumbnails.uri(row), label, float(results.confidence[i]), true_name(results, i)
            )
        )
    rest = order[MOST_QUERIES:]
    wrong = None
    if not math.isnan(task.accuracy):
        wrong = int((results.predicted[rest] != results.truth[rest]).sum())
    support = _support(prediction, task, thumbnails)
    return TaskDetail(
        numbers=task,
        support=support,
        more_classes=len(episode.class_names) - len(support),
        queries=tuple(queries),
        more_queries=len(rest),
        more_wrong=wrong,
        confusion=confusion(results, task.answers, episode.class_names),
    )


def _support(prediction: Prediction, task: TaskNumbers, thumbnails: Thumbnails) -> tuple[SupportClass, ...]:
    episode, table = task.episode, prediction.table
    misnamed = task.estimate.misnamed if task.estimate else {}
    shown = episode.class_names[:MOST_SUPPORTS]
    each = max(1, MOST_SUPPORTS // max(1, len(shown)))
    classes = []
    for label, name in enumerate(shown):
        rows = episode.support[episode.support_labels == label].tolist()
        # A picture that the others misname is what a person should look at: it is never among those left out.
        first = sorted(rows, key=lambda row: row not in misnamed)[:each]
        pictures = tuple(
            Picture(table.image_name(row), thumbnails.uri(row), misnamed.get(row)) for row in rows if row in set(first)
        )
        classes.append(SupportClass(name, pictures, len(rows) - len(pictures)))
    return tuple(classes)
