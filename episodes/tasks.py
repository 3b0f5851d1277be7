"""Task directories, the testB layout: ``<task>/support/<class>/<image>`` and ``<task>/query/<image>``.

A task on disk becomes the same Episode that a sampler draws, so one engine serves both.
"""

import os
from dataclasses import dataclass

import numpy as np

from episodes.directory_index import cannot_list, list_folder, require_folder
from episodes.episode import OUTSIDE, Episode
from episodes.errors import DataError
from episodes.files import display_name, natural_key
from episodes.paths import PathList
from episodes.predictions import name_some, read_labels
from episodes.table import ImageTable, PassedOverCounter
from episodes.task_writing import write_task_directory

__all__ = ["read_task_directory", "write_task_directory"]

_EXPECTED = (
    "the folder that holds testB/, a folder of tasks, or one task "
    "(a folder with support/<class>/<image> and query/<image>)"
)
StrPath = str | os.PathLike[str]


@dataclass(frozen=True)
class _Task:
    """One task on disk: pictures in natural order."""

    name: str
    path: str
    support: dict[str, tuple[str, list[str]]]  # class name -> (folder, pictures)
    without_pictures: frozenset[str]  # class folders that hold no picture
    query: list[str]


def read_task_directory(
    root: StrPath, truth: StrPath | None = None, *, find_truth: bool = True
) -> tuple[ImageTable, list[Episode]]:
    """Read tasks in natural order as one table and an episode for each.

    The table lists every picture once, supports before queries in each task; its classes are those of all
    tasks in natural order, and queries have label -1 in it. A class folder without pictures is passed over
    and counted; a task without any class gives an episode without classes.

    Args:
        root: the folder that holds ``testB/``, a folder of tasks, or one task.
        truth: CSV of ``task,image,label`` that gives the query labels. Default: ``truth.csv`` in ``root``, or
            beside the tasks, or beside ``testB``, where there is one.
        find_truth: False looks for no truth, so that queries stay unlabelled unless ``truth`` is given.

    Raises:
        DataError: no tasks, a task without support or query, or a truth that does not fit; names them.
    """
    top = os.fspath(root)
    require_folder(top, _EXPECTED)
    passed = PassedOverCounter()
    holder, names = _find_tasks(top, passed)
    tasks = [_read_task(os.path.join(holder, name), passed) for name in names]
    truth_path = os.fspath(truth) if truth is not None else _find_truth(top, holder) if find_truth else None
    labels = _task_labels(tasks, truth_path, allow_other_tasks=_is_task(top)) if truth_path else None
    return _to_episodes(tasks, labels, passed)


def _is_task(path: str) -> bool:
    return any(os.path.isdir(os.path.join(path, part)) for part in ("support", "query"))


def _find_tasks(top: str, passed: PassedOverCounter) -> tuple[str, list[str]]:
    """The folder that holds the tasks, and the tasks' folder names in natural order."""
    if _is_task(top):
        resolved = os.path.abspath(top)
        return os.path.dirname(resolved), [os.path.basename(resolved)]
    holder = os.path.join(top, "testB")
    if not os.path.isdir(holder) or _is_task(holder):
        holder = top
    try:
        folders = list_folder(holder, passed).folders
    except OSError as error:
        raise cannot_list(holder, error) from error
    names = []
    for name in sorted(folders, key=natural_key):
        if _is_task(os.path.join(holder, name)):
            names.append(name)
        elif name.startswith("task"):
            raise DataError(
                f"{display_name(os.path.join(holder, name))} has neither support/ nor query/; a task has both"
            )
        else:
            passed.add("folders that are no tasks", holder, name)
    if not names:
        raise DataError(
            f"{display_name(holder)} holds no tasks; expected {_EXPECTED}, found {len(folders)} other folders"
        )
    return holder, names


def _read_task(path: str, passed: PassedOverCounter) -> _Task:
    shown = display_name(path)
    for part, meaning in (
        ("support", "labelled pictures in <class>/ folders"),
        ("query", "the pictures to name"),
    ):
        if not os.path.isdir(os.path.join(path, part)):
            raise DataError(f"task {shown} has no folder {part}/; expected {meaning} in it")
    query_folder, support_folder = os.path.join(path, "query"), os.path.join(path, "support")
    try:
        query, support = list_folder(query_folder, passed), list_folder(support_folder, passed)
        classes = [
            list_folder(os.path.join(support_folder, n), passed) for n in sorted(support.folders, key=natural_key)
        ]
    except OSError as error:
        raise cannot_list(str(error.filename), error) from error
    for name in query.folders:
        passed.add("sub-folders of query/", query_folder, name)
    for name in support.pictures:
        passed.add("pictures outside a class folder", support_folder, name)
    if not query.pictures:
        raise DataError(f"task {shown} has no pictures in query/; expected the pictures to name, by their suffix")
    filled: dict[str, tuple[str, list[str]]] = {}
    empty = set()
    for listing in classes:
        name = display_name(os.path.basename(listing.path))
        for inner in listing.folders:
            passed.add("sub-folders of a class folder", listing.path, inner)
        if listing.pictures:
            filled[name] = (listing.path, sorted(listing.pictures, key=natural_key))
        else:
            passed.add("classes without a support picture", listing.path)
            empty.add(name)
    task_name = display_name(os.path.basename(path))
    return _Task(task_name, path, filled, frozenset(empty), sorted(query.pictures, key=natural_key))


def _find_truth(top: str, holder: str) -> str | None:
    """truth.csv in the folder given, beside the tasks, or beside ``testB``."""
    places = [top, holder]
    if os.path.basename(os.path.abspath(holder)) == "testB":
        places.append(os.path.dirname(os.path.abspath(holder)))
    for place in places:
        path = os.path.join(place, "truth.csv")
        if os.path.isfile(path):
            return path
    return None


def _task_labels(tasks: list[_Task], path: str, allow_other_tasks: bool) -> list[list[int]]:
    """Labels of every task's queries, in the tasks' order."""
    truth, shown = read_labels(path), display_name(path)
    others = sorted(truth.keys() - {task.name for task in tasks}, key=natural_key)
    if others and not allow_other_tasks:
        raise DataError(f"{shown} names {len(others)} tasks that are not there: {name_some(others)}")
    labels = []
    for task in tasks:
        given = truth.get(task.name, {})
        images = [display_name(name) for name in task.query]
        missing = [f"{task.name}/{name}" for name in images if name not in given]
        extra = [f"{task.name}/{name}" for name in given.keys() - set(images)]
        if missing:
            raise DataError(f"{shown} has no row for {len(missing)} query pictures: {name_some(missing)}")
        if extra:
            raise DataError(f"{shown} names {len(extra)} query pictures that are not there: {name_some(sorted(extra))}")
        labels.append([_label(task, given[name], name, shown) for name in images])
    return labels


def _label(task: _Task, class_name: str, image: str, truth: str) -> int:
    if class_name in task.support:
        return list(task.support).index(class_name)
    if class_name in task.without_pictures:
        return OUTSIDE
    known = ", ".join(list(task.support)[:5])
    raise DataError(
        f"{truth}: {task.name}/{image} has the label {class_name!r}, which is no class folder of the task ({known}, …)"
    )


def _to_episodes(
    tasks: list[_Task], labels: list[list[int]] | None, passed: PassedOverCounter
) -> tuple[ImageTable, list[Episode]]:
    vocabulary = sorted({name for task in tasks for name in task.support}, key=natural_key)
    ids = {name: number for number, name in enumerate(vocabulary)}
    folders: list[str] = []
    names: list[str] = []
    sizes: list[int] = []
    row_labels: list[int] = []
    episodes = []
    for number, task in enumerate(tasks):
        start = len(names)
        support_labels = [label for label, (_, files) in enumerate(task.support.values()) for _ in files]
        parts = [(*part, ids[name]) for name, part in task.support.items()]
        for folder, files, class_id in [*parts, (os.path.join(task.path, "query"), task.query, -1)]:
            folders.append(folder)
            sizes.append(len(files))
            names.extend(files)
            row_labels.extend([class_id] * len(files))
        middle = start + len(support_labels)
        episodes.append(
            Episode(
                name=task.name,
                class_names=tuple(task.support),
                support=np.arange(start, middle),
                support_labels=np.array(support_labels, dtype=np.int64),
                query=np.arange(middle, len(names)),
                query_labels=None if labels is None else np.array(labels[number]),
            )
        )
    items = PathList(folders, np.repeat(np.arange(len(folders)), sizes), names)
    return ImageTable(items, np.array(row_labels, dtype=np.int32), tuple(vocabulary), passed.result()), episodes
