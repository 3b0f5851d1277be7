"""One task on disk: what its folders hold, what is wrong with it, and the Episode that it becomes."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from episodes.directory_index import Listing, cannot_list, list_folder
from episodes.episode import Episode
from episodes.files import display_name, natural_key
from episodes.paths import PathList
from episodes.table import ImageTable, PassedOverCounter
from episodes.wording import counted


@dataclass(frozen=True)
class Task:
    """One task on disk: pictures in natural order.

    Attributes:
        name: of the task.
        support: class name -> (folder, pictures).
        without_pictures: class folders that hold no picture.
        query: (folder, pictures), in the order of the results.
    """

    name: str
    support: dict[str, tuple[str, list[str]]]
    without_pictures: frozenset[str]
    query: Sequence[tuple[str, list[str]]]

    @cached_property
    def images(self) -> list[str]:
        """The names that the query pictures go by in results."""
        return [display_name(name) for _, names in self.query for name in names]


def read_task(path: str, passed: PassedOverCounter) -> Task:
    """Read one task; what is wrong with it is noted once, and what is left of it returned."""
    task = display_name(os.path.basename(path))
    query, fault = _part(path, "query", "the pictures to name", passed)
    if not fault and not query.pictures:
        fault = "has no pictures in query/; expected the pictures to name, by their suffix"
    for name in query.folders:
        passed.add("sub-folders of query/", query.path, name)
    if fault:
        passed.fault(f"task {display_name(path)} {fault}. It has no rows")
        return Task(task, {}, frozenset(), [])
    support, fault = _part(path, "support", "labelled pictures in <class>/ folders", passed)
    for name in support.pictures:
        passed.add("pictures outside a class folder", support.path, name)
    filled, empty = read_classes(support, passed)
    if not fault and not filled:
        fault = (
            f"has no picture in support/<class>/; expected labelled ones, found {counted(len(empty), 'class folder')} without any and "
            f"{counted(len(support.pictures), 'picture')} outside a class folder"
        )
    if fault:
        passed.fault(f"task {display_name(path)} {fault}. Its queries get no answer")
    return Task(task, filled, empty, [(query.path, sorted(query.pictures, key=natural_key))])


def read_classes(
    support: Listing, passed: PassedOverCounter
) -> tuple[dict[str, tuple[str, list[str]]], frozenset[str]]:
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


def to_episodes(
    tasks: list[Task], labels: list[list[int]] | None, passed: PassedOverCounter
) -> tuple[ImageTable, list[Episode]]:
    """One table of every task's pictures, supports before queries in each, and an episode for each task."""
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
        for folder, files, class_id in [*parts, *((*part, -1) for part in task.query)]:
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
