"""What a page shows beyond numbers: the tasks that can be looked at, the pictures that there is room for, and the script's document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fewshot.predict import Prediction
from fewshot.report.document import build_document
from fewshot.report.numbers import TaskNumbers, least_confident
from fewshot.report.selection import rows_wanted, select
from fewshot.report.thumbnails import SIDE, SMALL_SIDE, TYPICAL_BYTES, Thumbnails

MOST_ROWS = 1000  # of the table of tasks


@dataclass(frozen=True)
class Pictures:
    """What goes into the page.

    Attributes:
        rows: the table's tasks, each with its place in the document.
        document: see `build_document`.
        pictures: the thumbnails as base64 text.
        pictures_wanted: how many there would be without any limit.
    """

    rows: list[tuple[int, TaskNumbers]]
    document: dict[str, Any]
    pictures: list[str]
    pictures_wanted: int


def choose_pictures(prediction: Prediction, tasks: Sequence[TaskNumbers], picture_bytes: int) -> Pictures:
    """The least confident tasks, and thumbnails of up to `picture_bytes` of them and of what to look at first."""
    chosen = {task.answers.start for task in least_confident(tasks, MOST_ROWS)}
    listed = [number for number, task in enumerate(tasks) if task.answers.start in chosen]
    of_listed = [(number, tasks[number]) for number in listed]
    wanted = rows_wanted(prediction, of_listed)
    side = SIDE if wanted * TYPICAL_BYTES <= picture_bytes else SMALL_SIDE
    thumbnails = Thumbnails(prediction.table.items, picture_bytes, side)
    selection = select(prediction, of_listed, thumbnails)
    document = build_document(prediction, tasks, listed, selection, thumbnails)
    places = [place for place, task in enumerate(document["tasks"]) if task["listed"]]
    rows = list(zip(places, (tasks[number] for number in listed), strict=True))
    wanted -= sum(thumbnails.number(row) < 0 for row in prediction.embeddings.problems)
    return Pictures(rows, document, thumbnails.made, wanted)
