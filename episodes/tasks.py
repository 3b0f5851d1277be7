"""Task directories, the testB layout: ``<task>/support/<class>/<image>`` and ``<task>/query/<image>``.

A task on disk becomes the same Episode that a sampler draws, so one engine serves both.
"""

import os
from dataclasses import dataclass

import numpy as np

from episodes.directory_index import Listing, cannot_list, list_folder, require_folder
from episodes.episode import OUTSIDE, Episode
from episodes.errors import DataError
from episodes.files import display_name, natural_key
from episodes.formulas import closest_reading
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
    and counted. What is broken as a task costs no other task anything: the fault is noted in the table's
    ``passed_over.faults``, a task without support gives an episode without classes (its queries get no
    answer), and a task without query gives none.

    Args:
        root: the folder that holds ``testB/``, a folder of tasks, or one task.
        truth: CSV of ``task,image,label`` that gives the query labels. Default: ``truth.csv`` in ``root``, or
            beside the tasks, or beside ``testB``, where there is one.
        find_truth: False looks for no truth, so that queries stay unlabelled unless ``truth`` is given.

    Raises:
        DataError: no tasks, no query picture in any of them, or a truth that does not fit; names them.
    """
    top = os.fspath(root)
    require_folder(top, _EXPECTED)
    passed = PassedOverCounter()
    holder, names = _find_tasks(top, passed)
    found = [_read_task(os.path.join(holder, name), passed) for name in names]
    tasks = [task for task in found if task.query]
    if not tasks:
        faults = passed.result().faults
        raise DataError(f"{display_name(top)} holds no picture to name: {'; '.join(faults[:5])}")
    truth_path = os.fspath(truth) if truth is not None else _find_truth(top, holder) if find_truth else None
    labels = None
    if truth_path is not None:
        absent = {task.name for task in found} - {task.name for task in tasks}
        labels = _task_labels(tasks, truth_path, absent, allow_other_tasks=_is_task(top))
    return _to_episodes(tasks, labels, passed)


def _is_task(path: str) -> bool:
    """Whether a folder holds support/ or query/, be it only by name: a file in their place is a broken task."""
    return any(os.path.lexists(os.path.join(path, part)) for part in ("support", "query"))


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
        path = os.path.join(holder, name)
        if _is_task(path):
            names.append(name)
        elif name.startswith("task"):
            passed.fault(f"task {display_name(path)} has neither support/ nor query/; expected both. It has no rows")
        else:
            passed.add("folders that are no tasks", holder, name)
    if not names:
        broken = "".join(f"; {fault}" for fault in passed.result().faults[:5])
        raise DataError(
            f"{display_name(holder)} holds no tasks; expected {_EXPECTED}, found {len(folders)} other folders{broken}"
        )
    return holder, names


def _read_task(path: str, passed: PassedOverCounter) -> _Task:
    """Read one task; what is wrong with it is noted once, and what is left of it returned."""
    task = display_name(os.path.basename(path))
    query, fault = _part(path, "query", "the pictures to name", passed)
    if not fault and not query.pictures:
        fault = "has no pictures in query/; expected the pictures to name, by their suffix"
    for name in query.folders:
        passed.add("sub-folders of query/", query.path, name)
    if fault:
        passed.fault(f"task {display_name(path)} {fault}. It has no rows")
        return _Task(task, path, {}, frozenset(), [])
    support, fault = _part(path, "support", "labelled pictures in <class>/ folders", passed)
    for name in support.pictures:
        passed.add("pictures outside a class folder", support.path, name)
    filled, empty = _classes(support, passed)
    if not fault and not filled:
        fault = (
            f"has no picture in support/<class>/; expected labelled ones, found {len(empty)} class folders without any and "
            f"{len(support.pictures)} pictures outside a class folder"
        )
    if fault:
        passed.fault(f"task {display_name(path)} {fault}. Its queries get no answer")
    return _Task(task, path, filled, empty, sorted(query.pictures, key=natural_key))


def _classes(support: Listing, passed: PassedOverCounter) -> tuple[dict[str, tuple[str, list[str]]], frozenset[str]]:
    """The class folders with pictures, as (folder, pictures) by name, and the names of those without."""
    filled: dict[str, tuple[str, list[str]]] = {}
    empty = set()
    for folder in sorted(support.folders, key=natural_key):
        path, name = os.path.join(support.path, folder), display_name(folder)
        try:
            listing = list_folder(path, passed)
        except OSError as error:
            passed.fault(f"{cannot_list(path, error)}. The class cannot be predicted")
            listing = Listing(path, [], [])
        for inner in listing.folders:
            passed.add("sub-folders of a class folder", path, inner)
        if listing.pictures:
            filled[name] = (path, sorted(listing.pictures, key=natural_key))
        else:
            passed.add("classes without a support picture", path)
            empty.add(name)
    return filled, frozenset(empty)


def _part(task: str, part: str, meaning: str, passed: PassedOverCounter) -> tuple[Listing, str]:
    """List support/ or query/ of a task, and say what is wrong with it: '' if nothing is."""
    path = os.path.join(task, part)
    nothing = Listing(path, [], [])
    if not os.path.lexists(path):
        return nothing, f"has no folder {part}/; expected {meaning} in it"
    if not os.path.isdir(path):
        return nothing, f"has something else than a folder as {part}; expected {meaning} in it"
    try:
        return list_folder(path, passed), ""
    except OSError as error:
        return nothing, f"has a folder {part}/ that cannot be listed ({error.strerror or error}); check its permissions"


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


def _task_labels(tasks: list[_Task], path: str, absent: set[str], allow_other_tasks: bool) -> list[list[int]]:
    """Labels of every task's queries, in the tasks' order; what the truth says of ``absent`` tasks is not looked at."""
    shown, names = display_name(path), {name for task in tasks for name in (*task.support, *task.without_pictures)}
    truth = closest_reading(
        read_labels(path), {(task.name, display_name(name)) for task in tasks for name in task.query}, names
    )
    others = sorted(truth.keys() - {task.name for task in tasks} - absent, key=natural_key)
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
    if class_name in task.without_pictures or not task.support:
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
