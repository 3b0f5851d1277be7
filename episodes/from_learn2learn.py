"""learn2learn's data sets as tables, its task sets as episodes; public in `episodes.interop`."""

from collections.abc import Hashable
from typing import Any

import numpy as np

from episodes.episode import Episode
from episodes.errors import DataError, UsageError
from episodes.install_learn2learn import import_learn2learn
from episodes.table import ImageTable


def from_meta_dataset(dataset: Any) -> ImageTable:
    """The table of a ``learn2learn.data.MetaDataset`` (or of a plain data set, which it then wraps).

    Items are the indices of the data set, classes its labels in ascending order.

    Raises:
        UsageError: learn2learn is not installed.
    """
    data = _meta_dataset(dataset)
    labels = sorted(data.labels_to_indices)
    numbers = {label: number for number, label in enumerate(labels)}
    items: list[Hashable] = sorted(data.indices_to_labels)
    classes = np.array([numbers[data.indices_to_labels[item]] for item in items], dtype=np.int32)
    return ImageTable(items, classes, tuple(str(label) for label in labels))


def from_taskset(taskset: Any, shots: int, *, tasks: int | None = None) -> tuple[ImageTable, list[Episode]]:
    """The tasks of a ``learn2learn.data.Taskset`` as a table and episodes.

    In each class the first ``shots`` pictures of a task are support and the others query, as
    ``learn2learn.data.partition_task`` divides them. Only descriptions are read, no picture is loaded. A
    task set with a number of tasks keeps them: ``taskset[i]`` stays episode i. New tasks are drawn by
    learn2learn, from Python's global random state.

    Args:
        taskset: its data set must be a MetaDataset; labels are the data set's own, not remapped ones.
        shots: support pictures of each class.
        tasks: how many. Needed where the task set is endless; default: all.

    Raises:
        UsageError: learn2learn is not installed; an endless task set without ``tasks``, more tasks than there
            are, or shots below 1.
        DataError: a class of a task has no picture left for the query, or a picture is in both.
    """
    endless = taskset.num_tasks == -1
    count = taskset.num_tasks if tasks is None else tasks
    if shots < 1 or count < 1 or (not endless and count > taskset.num_tasks):
        available = "as many tasks as asked for with tasks=" if endless else f"{taskset.num_tasks} tasks"
        raise UsageError(f"from_taskset takes shots of at least 1 and {available}; found {shots} shots, tasks={tasks}")
    table = from_meta_dataset(taskset.dataset)
    row_of = {item: row for row, item in enumerate(table.items)}
    episodes = []
    for number in range(count):
        described = taskset.sample_task_description() if endless else _description(taskset, number)
        rows = np.array([row_of[description.index] for description in described], dtype=np.int64)
        episodes.append(_divide(table, f"task{number}", rows, shots))
    return table, episodes


def _description(taskset: Any, number: int) -> Any:
    """Task `number` of a task set that has a number of tasks, drawn where it was not asked for before."""
    if hasattr(taskset, "describe"):  # one of ours knows it by its number
        return taskset.describe(number)
    if number not in taskset.sampled_descriptions:
        taskset.sampled_descriptions[number] = taskset.sample_task_description()
    return taskset.sampled_descriptions[number]


def _divide(table: ImageTable, name: str, rows: np.ndarray[Any, np.dtype[np.int64]], shots: int) -> Episode:
    """An episode whose labels number the classes by first appearance."""
    classes = list(dict.fromkeys(table.labels[rows].tolist()))
    by_class = [rows[table.labels[rows] == label] for label in classes]
    for label, of_class in zip(classes, by_class, strict=True):
        if len(of_class) <= shots:
            raise DataError(
                f"{name}: class {table.class_names[label]} has {len(of_class)} pictures, {shots} shots leave "
                "none for the query; sample more with KShots"
            )
    sizes = [len(of_class) - shots for of_class in by_class]
    return Episode(
        name=name,
        class_names=tuple(table.class_names[label] for label in classes),
        support=np.concatenate([of_class[:shots] for of_class in by_class]),
        support_labels=np.repeat(np.arange(len(classes)), shots),
        query=np.concatenate([of_class[shots:] for of_class in by_class]),
        query_labels=np.repeat(np.arange(len(classes)), sizes),
    )


def _meta_dataset(dataset: Any) -> Any:
    if hasattr(dataset, "labels_to_indices") and hasattr(dataset, "indices_to_labels"):
        return dataset
    return import_learn2learn().data.MetaDataset(dataset)
