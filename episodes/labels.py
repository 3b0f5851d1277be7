"""The labels of a CSV of task,image,label, be it a truth or a result."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from episodes.errors import DataError
from episodes.files import display_name, natural_key
from episodes.formulas import Labels, defuse, restore
from episodes.predictions import NEEDED, StrPath, read_rows

if TYPE_CHECKING:
    import pandas as pd

NO_TASK = ""  # the task of every row of a file without the column task
_NAMED = 5


def read_labels(path: StrPath, called: Mapping[str, str] | None = None) -> Labels:
    """The labels of a truth or result CSV: task -> image -> label; all of task '' where the file has no such column.

    Args:
        path: the file.
        called: task, image or label -> what it may be called in this file; its own name will do as well.

    Raises:
        DataError: see :func:`read_rows`; also where an image of a task appears twice, or there are no rows.
    """
    shown = display_name(os.fspath(path))
    header, rows = read_rows(path)
    places = {name: _place(header, name, (called or {}).get(name, name)) for name in NEEDED}
    if places["image"] is None or places["label"] is None:
        other = {name: text for name, text in (called or {}).items() if text != name}
        hint = f" ({', '.join(f'{n} may be called {t}' for n, t in other.items())})" if other else ""
        raise DataError(
            f"{shown}: expected a CSV file with the columns {','.join(NEEDED)}{hint}, found the header "
            f"{','.join(header) or '(empty)'}; columns of other names: --columns image=NAME,label=NAME"
        )
    labels: Labels = {}
    twice = []
    for row in rows:
        task, image, label = (NO_TASK if place is None else row[place] for place in places.values())
        of_task = labels.setdefault(task, {})
        if image in of_task:
            twice.append(f"{task}/{image}" if task else image)
        of_task[image] = label
    if twice:
        why = "" if places["task"] is not None else "has no column task, and "
        raise DataError(f"{shown}: {why}rows appear more than once: {name_some(twice)}")
    if not labels:
        raise DataError(f"{shown} holds a header but no rows")
    return labels


def _place(header: Sequence[str], name: str, called: str) -> int | None:
    return next((header.index(text) for text in (called, name) if text in header), None)


def in_tasks(labels: Labels, keys: Iterable[tuple[str, str]], path: StrPath) -> Labels:
    """Labels from a file without the column task, each under the task that has its image; others as they are.

    Args:
        labels: of :func:`read_labels`.
        keys: (task, image) of the pictures that there are.
        path: of the file, for messages.

    Raises:
        DataError: an image is in several tasks, so that the file does not say which of them it means.
    """
    if set(labels) != {NO_TASK}:
        return labels
    tasks_of: dict[str, list[str]] = {}
    for task, image in keys:
        tasks_of.setdefault(image, []).append(task)
    only = sorted({task for tasks in tasks_of.values() for task in tasks}, key=natural_key)[:1] or [NO_TASK]
    placed: Labels = {}
    several = []
    for image, label in labels[NO_TASK].items():
        tasks = tasks_of.get(image) or tasks_of.get(restore(image)) or tasks_of.get(defuse(image)) or only
        several += [image] if len(tasks) > 1 else []
        placed.setdefault(tasks[0], {})[image] = label
    if several:
        raise DataError(
            f"{display_name(os.fspath(path))} has no column task, and {len(several)} of its images are in several tasks: "
            f"{name_some(several)}. Give it the column task"
        )
    return placed


def read_truth(path: StrPath) -> "pd.DataFrame":
    """A truth CSV (``task,image,label``) as a DataFrame of text; raises as :func:`read_labels` does."""
    import pandas as pd

    rows = [(task, image, label) for task, of in read_labels(path).items() for image, label in of.items()]
    return pd.DataFrame(rows, columns=list(NEEDED), dtype=object)


def name_some(names: Sequence[str]) -> str:
    """The first few of ``names``, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
