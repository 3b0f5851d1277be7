"""Folders of this machine as what the page shows: class folders, or one task of a directory of tasks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from episodes import ImageTable, read_class_folders, read_task_directory
from episodes.errors import UsageError
from episodes.files import display_name
from fewshot.evaluation import is_task_directory

DEFAULT_TASK = "task1"


@dataclass(frozen=True, eq=False)
class Loaded:
    """Pictures as rows of a table: of each class, and those to name."""

    table: ImageTable
    classes: dict[str, list[int]]
    queries: list[int]
    task: str


def read_folder(path: str, task: str | None = None) -> Loaded | list[str]:
    """What lies in a folder; the names of the tasks to choose from, where there are several and none was named.

    Raises:
        DataError: it cannot be read, or holds neither class folders nor tasks.
        UsageError: there is no such task.
    """
    top = Path(path).expanduser()
    if not is_task_directory(top):
        table = read_class_folders(top)
        return Loaded(
            table,
            {name: table.rows_of(label).tolist() for label, name in enumerate(table.class_names)},
            [],
            DEFAULT_TASK,
        )
    table, episodes = read_task_directory(top, find_truth=False)
    chosen = [episode for episode in episodes if task in (None, episode.name)]
    if not chosen:
        raise UsageError(f"{display_name(str(top))} holds no task {task!r}")
    if len(chosen) > 1:
        return [episode.name for episode in chosen]
    (episode,) = chosen
    classes = {
        name: episode.support[episode.support_labels == label].tolist()
        for label, name in enumerate(episode.class_names)
    }
    return Loaded(table, classes, episode.query.tolist(), episode.name)
