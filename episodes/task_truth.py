"""The truth of tasks on disk: a CSV of task,image,label, matched with the query pictures that are there."""

from collections.abc import Sequence

from episodes.episode import OUTSIDE
from episodes.errors import DataError, TruthError
from episodes.files import display_name, natural_key
from episodes.formulas import closest_reading
from episodes.labels import in_tasks, name_some, read_labels
from episodes.task_folders import Task
from episodes.wording import counted


def read_truth_labels(tasks: list[Task], path: str, absent: set[str], allow_other_tasks: bool) -> list[list[int]]:
    """Labels of every task's queries, in the tasks' order; what the truth says of ``absent`` tasks is not looked at.

    Raises:
        TruthError: the file cannot be read, or does not fit the tasks; names what does not.
    """
    shown, names = display_name(path), {name for task in tasks for name in (*task.support, *task.without_pictures)}
    keys = {(task.name, image) for task in tasks for image in task.images}
    try:
        truth = closest_reading(in_tasks(read_labels(path), keys, path), keys, names)
    except DataError as error:
        raise TruthError(str(error)) from error
    others = sorted(truth.keys() - {task.name for task in tasks} - absent, key=natural_key)
    if others and not allow_other_tasks:
        raise TruthError(
            f"{shown} names {counted(len(others), 'task')} that {_be(others)} not there: {name_some(others)}"
        )
    labels = []
    for task in tasks:
        given = truth.get(task.name, {})
        missing = [f"{task.name}/{name}" for name in task.images if name not in given]
        extra = [f"{task.name}/{name}" for name in given.keys() - set(task.images)]
        if missing:
            raise TruthError(f"{shown} has no row for {counted(len(missing), 'query picture')}: {name_some(missing)}")
        if extra:
            raise TruthError(
                f"{shown} names {counted(len(extra), 'query picture')} that {_be(extra)} not there: {name_some(sorted(extra))}"
            )
        labels.append([_label(task, given[name], name, shown) for name in task.images])
    return labels


def _be(things: Sequence[str]) -> str:
    return "is" if len(things) == 1 else "are"


def _label(task: Task, class_name: str, image: str, truth: str) -> int:
    if class_name in task.support:
        return list(task.support).index(class_name)
    if class_name in task.without_pictures or not task.support:
        return OUTSIDE
    known = ", ".join(list(task.support)[:5])
    raise TruthError(
        f"{truth}: {task.name}/{image} has the label {class_name!r}, which is no class folder of the task ({known}, …)"
    )
