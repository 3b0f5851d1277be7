"""Scoring a result CSV against a truth CSV."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from episodes.errors import DataError
from episodes.files import display_name, natural_key
from episodes.formulas import Labels, closest_reading
from episodes.labels import in_tasks, name_some, read_labels
from episodes.predictions import UNKNOWN_LABEL, StrPath
from episodes.wording import counted


@dataclass(frozen=True)
class ScoreResult:
    """How good a result CSV is.

    Attributes:
        accuracy: mean over tasks, in [0, 1]; a picture without an answer counts as wrong.
        ci95: half-width of the 95 % interval of that mean.
        images: how many.
        tasks: how many.
        per_task: accuracy of each task.
        coverage: share of the images that have an answer: neither an empty label nor "unknown".
        accuracy_answered: mean over tasks of the accuracy of those alone; NaN where there are none.
        ci95_answered: half-width of its 95 % interval.
        new_classes_low: lower end of the 95 % interval of the accuracy on tasks of new classes, if one name is one class in all tasks;
            NaN where there are fewer than three.
        new_classes_high: upper end.
        classes: how many names there are.
    """

    accuracy: float
    ci95: float
    images: int
    tasks: int
    per_task: dict[str, float]
    coverage: float
    accuracy_answered: float
    ci95_answered: float
    new_classes_low: float
    new_classes_high: float
    classes: int


def score_predictions(result_csv: StrPath, truth_csv: StrPath, columns: Mapping[str, str] | None = None) -> ScoreResult:
    """Accuracy of a result CSV; an empty label counts as wrong.

    Args:
        result_csv: task,image,label and whatever else. Without the column task, images are matched by their names.
        truth_csv: task,image,label.
        columns: task, image or label -> what it is called in either file, where that is not its own name.

    Raises:
        DataError: the files do not list the same images, an image appears twice, or a true label is empty.
    """
    from episodes.statistics import mean_interval, task_accuracies  # numpy: the names of the columns need none

    found, truth = read_labels(result_csv, columns), read_labels(truth_csv, columns)
    found, truth = in_tasks(found, _keys(truth), result_csv), in_tasks(truth, _keys(found), truth_csv)
    result_name, truth_name = display_name(os.fspath(result_csv)), display_name(os.fspath(truth_csv))
    if _keys(found) != _keys(truth) or not _names(found) <= _names(truth):  # one of them may be defused
        found = closest_reading(found, _keys(truth), _names(truth))
        truth = closest_reading(truth, _keys(found), _names(found))
    expected_keys, found_keys = _keys(truth), _keys(found)
    missing, extra = expected_keys - found_keys, found_keys - expected_keys
    if missing:
        raise DataError(
            f"{result_name} lacks {counted(len(missing), 'image')} of {truth_name}: {name_some(_slashed(missing))}"
        )
    if extra:
        raise DataError(
            f"{result_name} has {counted(len(extra), 'image')} that {truth_name} lacks: {name_some(_slashed(extra))}"
        )
    empty = [f"{task}/{image}" for task, of in truth.items() for image, label in of.items() if not label]
    if empty:
        raise DataError(f"{truth_name} has rows without a label: {name_some(empty)}")
    names = sorted(truth, key=natural_key)
    task = [number for number, name in enumerate(names) for _ in truth[name]]
    right = [found[name][image] == label for name in names for image, label in truth[name].items()]
    accuracies = task_accuracies(task, right, [True] * len(right), len(names))
    mean, half_width = mean_interval(accuracies)
    answered = [found[name][image] not in ("", UNKNOWN_LABEL) for name in names for image in truth[name]]
    of_answered = mean_interval(task_accuracies(task, right, answered, len(names)))
    return ScoreResult(
        mean,
        half_width,
        len(right),
        len(names),
        dict(zip(names, accuracies.ravel().tolist(), strict=True)),
        sum(answered) / len(answered),
        *of_answered,
        *_for_new_classes(
            task, [(label, found[name][image]) for name in names for image, label in truth[name].items()], mean
        ),
        len(_names(truth)),
    )


def _for_new_classes(task: Sequence[int], pairs: Sequence[tuple[str, str]], mean: float) -> tuple[float, float]:
    """The interval from (true label, answer) of every image."""
    import numpy as np  # only scoring needs it, not the names of the columns

    from episodes.class_interval import Losses, accuracy_for_new_classes, new_classes_ci95

    names = sorted({name for pair in pairs for name in pair} - {"", UNKNOWN_LABEL})
    ids = {name: number for number, name in enumerate(names)}
    truth, answers = np.array([[ids.get(name, -1) for name in pair] for pair in pairs]).T
    return accuracy_for_new_classes(mean, new_classes_ci95(Losses(np.array(task), truth, ((1, answers),))))


def _names(labels: Labels) -> set[str]:
    return {name for of in labels.values() for name in of.values()}


def _keys(labels: Labels) -> set[tuple[str, str]]:
    return {(task, image) for task, of in labels.items() for image in of}


def _slashed(keys: set[tuple[str, str]]) -> list[str]:
    return sorted((f"{task}/{image}" for task, image in keys), key=natural_key)
