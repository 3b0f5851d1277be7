"""One task out of a folder of class folders and some pictures, wherever they lie: no task folder is needed."""

import os
from collections.abc import Sequence

from episodes.directory_index import list_folder, require_folder
from episodes.episode import Episode
from episodes.errors import DataError
from episodes.files import display_name, natural_key
from episodes.predictions import StrPath
from episodes.table import ImageTable, PassedOverCounter
from episodes.task_folders import Task, read_classes, to_episodes
from episodes.task_truth import read_truth_labels
from episodes.wording import counted

_CLASSES = "class folders with the labelled pictures: <class>/<image>"


def read_support_and_query(
    support: StrPath, query: Sequence[StrPath], truth: StrPath | None = None
) -> tuple[ImageTable, list[Episode]]:
    """Read one task, as :func:`episodes.read_task_directory` reads those on disk.

    The task is called as the folder of its classes, or if that is called ``support``, as the folder around it.
    Pictures go by their file names, or by their paths as given where two have the same name.

    Args:
        support: the folder of class folders.
        query: pictures, and folders of pictures. A folder's come in natural order, and what is no picture by its suffix is
            passed over and counted; a file that is named is always asked about.
        truth: CSV of ``image,label``, with or without ``task``.

    Raises:
        DataError: nothing there, no class with a picture, or no picture to name; names the path.
        TruthError: a truth that cannot be read, or does not fit.
    """
    top, passed = os.fspath(support), PassedOverCounter()
    require_folder(top, _CLASSES)
    listing = list_folder(top, passed)
    for name in listing.pictures:
        passed.add("pictures outside a class folder", top, name)
    filled, empty = read_classes(listing, passed)
    if not filled:
        raise DataError(
            f"{display_name(top)} holds no class with a picture; expected {_CLASSES}, found "
            f"{counted(len(empty), 'folder')} without any and {counted(len(listing.pictures), 'picture')} outside a class folder"
        )
    task = Task(_task_name(top), filled, empty, _told_apart(_pictures(query, passed)))
    labels = None if truth is None else read_truth_labels([task], os.fspath(truth), set(), allow_other_tasks=True)
    return to_episodes([task], labels, passed)


def _task_name(support: str) -> str:
    path = os.path.abspath(support)
    around, name = os.path.split(path)
    return display_name((os.path.basename(around) or name) if name == "support" else name) or "task"


def _pictures(query: Sequence[StrPath], passed: PassedOverCounter) -> list[tuple[str, list[str]]]:
    """(folder, names) of what is asked about, each path once."""
    found: list[tuple[str, list[str]]] = []
    seen: set[tuple[str, str]] = set()
    for path in (os.fspath(each) for each in query):
        if os.path.isdir(path):
            require_folder(path, "pictures to name")
            listing = list_folder(path, passed)
            for name in listing.folders:
                passed.add("sub-folders of the pictures to name", path, name)
            folder, names = path, sorted(listing.pictures, key=natural_key)
        elif os.path.lexists(path):
            folder, name = os.path.split(path)
            names = [name]
        else:
            raise DataError(f"there is no {display_name(path)}; expected a picture to name, or a folder of them")
        fresh = [name for name in names if (folder, name) not in seen]
        seen |= {(folder, name) for name in fresh}
        if fresh:
            found.append((folder, fresh))
    if not found:
        shown = ", ".join(display_name(os.fspath(each)) for each in query)
        raise DataError(f"there is no picture to name in {shown or 'nothing'}; expected pictures, by their suffix")
    return found


def _told_apart(found: list[tuple[str, list[str]]]) -> list[tuple[str, list[str]]]:
    """The same pictures, by their whole paths where two go by one name."""
    names = [name for _, part in found for name in part]
    if len({display_name(name) for name in names}) == len(names):
        return found
    return [("", [os.path.join(folder, name) for name in part]) for folder, part in found]
