"""Task directories, the testB layout: ``<task>/support/<class>/<image>`` and ``<task>/query/<image>``.

A task on disk becomes the same Episode that a sampler draws, so one engine serves both.
"""

import os

from episodes.directory_index import cannot_list, list_folder, require_folder
from episodes.episode import Episode
from episodes.errors import DataError
from episodes.files import display_name, natural_key
from episodes.table import ImageTable, PassedOverCounter
from episodes.task_folders import read_task, to_episodes
from episodes.task_truth import read_truth_labels
from episodes.task_writing import write_task_directory

__all__ = ["find_truth", "read_task_directory", "write_task_directory"]

_EXPECTED = (
    "the folder that holds testB/, a folder of tasks, or one task "
    "(a folder with support/<class>/<image> and query/<image>)"
)
StrPath = str | os.PathLike[str]


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
        DataError: no tasks, or no query picture in any of them; names them.
        TruthError: a truth that cannot be read, or does not fit the tasks; a DataError too.
    """
    top = os.fspath(root)
    require_folder(top, _EXPECTED)
    passed = PassedOverCounter()
    holder, names = _find_tasks(top, passed)
    found = [read_task(os.path.join(holder, name), passed) for name in names]
    tasks = [task for task in found if task.query]
    if not tasks:
        faults = passed.result().faults
        raise DataError(f"{display_name(top)} holds no picture to name: {'; '.join(faults[:5])}")
    truth_path = os.fspath(truth) if truth is not None else _truth_beside(top, holder) if find_truth else None
    labels = None
    if truth_path is not None:
        absent = {task.name for task in found} - {task.name for task in tasks}
        labels = read_truth_labels(tasks, truth_path, absent, allow_other_tasks=_is_task(top))
    return to_episodes(tasks, labels, passed)


def find_truth(root: StrPath) -> str | None:
    """The truth.csv that :func:`read_task_directory` finds for a directory of tasks; None where there is none."""
    top = os.fspath(root)
    if _is_task(top):
        return _truth_beside(top, os.path.dirname(os.path.abspath(top)))
    holder = os.path.join(top, "testB")
    return _truth_beside(top, holder if os.path.isdir(holder) and not _is_task(holder) else top)


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
        elif not os.access(path, os.X_OK):
            passed.fault(f"task {display_name(path)} cannot be entered; check its permissions. It has no rows")
        elif name.startswith("task"):
            passed.fault(f"task {display_name(path)} has neither support/ nor query/; expected both. It has no rows")
        else:
            passed.add("folders beside the tasks", holder, name)
    if not names:
        broken = "".join(f"; {fault}" for fault in passed.result().faults[:5])
        raise DataError(
            f"{display_name(holder)} holds no tasks; expected {_EXPECTED}, found {len(folders)} other folders{broken}"
        )
    return holder, names


def _truth_beside(top: str, holder: str) -> str | None:
    """truth.csv in the folder given, beside the tasks, or beside ``testB``."""
    places = [top, holder]
    if os.path.basename(os.path.abspath(holder)) == "testB":
        places.append(os.path.dirname(os.path.abspath(holder)))
    for place in places:
        path = os.path.join(place, "truth.csv")
        if os.path.isfile(path):
            return path
    return None
