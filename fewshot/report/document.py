"""What the page's script reads: the chosen answers, supports and tasks as plain lists, small enough for a thousand tasks.

Names are text here and stay text in the page: the script only ever sets the text of elements, never their markup.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from episodes import OUTSIDE, UNKNOWN
from fewshot.predict import Prediction
from fewshot.report.numbers import NO_ANSWER, NONE_OF_THEM, TaskNumbers, confusion
from fewshot.report.plane import on_grid, principal_plane
from fewshot.report.selection import Selection
from fewshot.report.thumbnails import Thumbnails

MOST_PAIRS = 120  # (truth, answer) of a task: beyond, only its most frequent mistakes are told
_TOLD_MISTAKES = 20
_NOWHERE = (-1, -1)


class Names:
    """Class names as numbers: those of the results first, then whatever else occurs."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self._ids = {name: number for number, name in enumerate(vocabulary)}

    def __call__(self, name: str) -> int:
        """The number of a name, a new one where it is not known yet."""
        return self._ids.setdefault(name, len(self._ids))

    @property
    def all(self) -> list[str]:
        """Every name, in the order of its number."""
        return list(self._ids)


def build_document(
    prediction: Prediction,
    tasks: Sequence[TaskNumbers],
    listed: Sequence[int],
    selection: Selection,
    thumbnails: Thumbnails,
) -> dict[str, Any]:
    """The document of a page.

    Args:
        prediction: with its results.
        tasks: the numbers of all tasks.
        listed: which of them can be looked at one by one, ascending.
        selection: what is shown of them.
        thumbnails: those that were made.

    Returns:
        classes: names; answers and truths are numbers among them.
        tasks: one object each, for every listed task and every other one of which an answer is shown.
        answers: [task, thumbnail, name, answer, truth or -1, confidence, x, y, x and y of the task's own map].
        supports: [task, thumbnail, name, class, what the others name it or -1, x, y of the task's own map].
    """
    results = prediction.results
    names = Names(results.vocabulary)
    places = {number: place for place, number in enumerate(_needed(prediction, listed, selection))}
    own = {number: _own_map(prediction, tasks[number]) for number in listed}
    together, shares = _whole_map(prediction, selection)
    answers = []
    for i in selection.answers:
        task, row = int(results.episode[i]), int(results.row[i])
        where = (*together.get(i, _NOWHERE), *own.get(task, {}).get(row, _NOWHERE))
        answers.append([places[task], *_answer(prediction, i, thumbnails, names), *where])
    supports = [
        [places[task], *_support(prediction, tasks[task], position, thumbnails, names, own[task])]
        for task, positions in selection.supports.items()
        for position in positions
    ]
    return {
        "tasks": [_task(prediction, tasks[number], names, number in own) for number in places],
        "answers": answers,
        "supports": supports,
        "shares": [round(share, 4) for share in shares],
        "prefix": thumbnails.prefix,
        "classes": names.all,
    }


def as_script_data(value: Any) -> str:
    """JSON that can stand inside a <script> element: no character in it ends that element or begins a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _needed(prediction: Prediction, listed: Sequence[int], selection: Selection) -> list[int]:
    shown = {int(task) for task in prediction.results.episode[list(selection.answers)]} if selection.answers else set()
    return sorted(shown | set(listed))


def _whole_map(prediction: Prediction, selection: Selection) -> tuple[dict[int, list[int]], tuple[float, float]]:
    """Answer -> its place on the map of all answers that are shown, and the shares of variance that the map holds."""
    rows, readable = prediction.results.row, prediction.embeddings.readable
    answered = [i for i in selection.answers if bool(readable[int(rows[i])])]
    plane, shares = principal_plane(prediction.embeddings.features[rows[answered]])
    return dict(zip(answered, on_grid(plane).tolist(), strict=True)), shares


def _own_map(prediction: Prediction, task: TaskNumbers) -> dict[int, list[int]]:
    """Row -> its place on the map of its own task, over all readable pictures of the task."""
    rows = np.unique(np.concatenate([task.episode.support, prediction.results.row[task.answers]]))
    rows = rows[prediction.embeddings.readable.numpy()[rows]]
    plane, _ = principal_plane(prediction.embeddings.features[rows])
    return dict(zip(rows.tolist(), on_grid(plane).tolist(), strict=True))


def _answer(prediction: Prediction, i: int, thumbnails: Thumbnails, names: Names) -> list[Any]:
    results = prediction.results
    row, answer, truth = int(results.row[i]), int(results.predicted[i]), int(results.truth[i])
    sure = float(results.confidence[i])
    return [
        thumbnails.number(row),
        prediction.table.image_name(row),
        answer if answer >= 0 else names(NO_ANSWER),
        -1 if truth == UNKNOWN else names(NONE_OF_THEM) if truth == OUTSIDE else truth,
        -1 if math.isnan(sure) else round(sure, 6),
    ]


def _support(
    prediction: Prediction,
    task: TaskNumbers,
    position: int,
    thumbnails: Thumbnails,
    names: Names,
    places: dict[int, list[int]],
) -> list[Any]:
    episode = task.episode
    row = int(episode.support[position])
    misnamed = task.estimate.misnamed.get(row) if task.estimate else None
    return [
        thumbnails.number(row),
        prediction.table.image_name(row),
        names(episode.class_names[int(episode.support_labels[position])]),
        -1 if misnamed is None else names(misnamed),
        *places.get(row, _NOWHERE),
    ]


def _task(prediction: Prediction, task: TaskNumbers, names: Names, listed: bool) -> dict[str, Any]:
    """name, listed, classes, shots, queries, confidence, accuracy, estimate, pairs (truth, answer, how often), told."""
    found = confusion(prediction.results, task.answers, task.episode.class_names) if listed else None
    pairs: list[list[int]] = []
    if found is not None:
        pairs = [
            [names(truth), names(answer), int(found.counts[i, j])]
            for i, truth in enumerate(found.truths)
            for j, answer in enumerate(found.answers)
            if found.counts[i, j]
        ]
    whole = len(pairs) <= MOST_PAIRS
    if found is not None and not whole:
        pairs = [[names(truth), names(answer), n] for truth, answer, n in found.mistakes[:_TOLD_MISTAKES]]
    estimate = task.estimate
    return {
        "name": task.episode.name,
        "listed": listed,
        "classes": [names(name) for name in task.episode.class_names],
        "shots": task.shots.tolist(),
        "queries": task.answers.stop - task.answers.start,
        "wrong": _wrong(prediction, task),
        "confidence": _known(task.mean_confidence),
        "accuracy": _known(task.accuracy),
        "estimate": None if estimate is None else [round(estimate.accuracy, 4), estimate.right, estimate.pictures],
        "pairs": pairs,
        "whole": whole,
    }


def _wrong(prediction: Prediction, task: TaskNumbers) -> int | None:
    results = prediction.results
    known = results.truth[task.answers] != UNKNOWN
    if not known.any():
        return None
    return int((results.predicted[task.answers] != results.truth[task.answers])[known].sum())


def _known(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)
