"""One HTML file that shows what was predicted: no network, no script, pictures inside, bounded in size.

Everything that comes from a folder or a file is escaped by the templates, and a content security policy forbids
the page to run or load anything whatever a class folder is called.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from episodes import UNKNOWN, Results, mean_interval
from episodes.files import atomic_write, display_name
from fewshot.classifiers import TRANSDUCTIVE
from fewshot.classifiers.base import Classifier
from fewshot.classifiers.calibration import expected_calibration_error
from fewshot.embedding.embed import Progress
from fewshot.predict import Prediction
from fewshot.report.details import choose_details, least_confident
from fewshot.report.numbers import TaskNumbers, confusion, histogram, number_classes, number_tasks
from fewshot.version import __version__

TEMPLATES = Path(__file__).parent / "templates"
MOST_ROWS, MOST_CLASSES, MOST_PROBLEMS, MOST_WAYS = 500, 100, 50, 20  # of the table of tasks, of classes, ...
PICTURE_BYTES = 6_000_000


def write_prediction_report(
    prediction: Prediction,
    path: str | os.PathLike[str],
    *,
    backbone: str,
    classifier: str,
    checkpoint: str | None = None,
    tuned: bool = True,
    calibrated: bool = False,
    method: Classifier | None = None,
    class_text: Mapping[str, Tensor] | None = None,
    picture_bytes: int = PICTURE_BYTES,
    progress: Progress | None = None,
) -> None:
    """Write the page; the same prediction gives the same bytes.

    Args:
        prediction: with `truth`, right and wrong answers are told apart.
        path: the .html file, replaced in one step.
        backbone: as named on the command line.
        classifier: as named on the command line.
        checkpoint: where the encoder came from; None is the untouched backbone.
        tuned: False where the checkpoint kept the untouched encoder.
        calibrated: whether the confidences are calibrated probabilities.
        method: the classifier itself, for the label-free estimate of accuracy; None leaves that out.
        class_text: class name -> (D,) text embedding, for a method that uses names.
        picture_bytes: what all thumbnails together may take; tasks that do not fit are left out and counted.
        progress: told (tasks done, tasks in all) while the estimates are made, which is what takes time.

    Raises:
        DataError: the place cannot be written.
    """
    tasks = number_tasks(prediction, method, class_text, progress)
    settings = {
        "backbone": backbone,
        "checkpoint": None if checkpoint is None else display_name(checkpoint),
        "tuned": tuned,
        "classifier": classifier,
        "transductive": method.transductive if method is not None else classifier in TRANSDUCTIVE,
        "calibrated": calibrated,
    }
    page = render(
        "prediction.html",
        settings=settings,
        summary=_summary(prediction, tasks),
        histogram=histogram(prediction.results),
        problems=_problems(prediction),
        rows=sorted(least_confident(tasks, MOST_ROWS), key=lambda task: task.answers.start),
        classes=number_classes(prediction.results),
        confusion=_overall_confusion(prediction),
        details=choose_details(prediction, tasks, picture_bytes),
    )
    with atomic_write(path) as file:
        file.write(page)


def render(template: str, **values: Any) -> str:
    """Fill in a template; a value that it does not get is an error, and all text is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        percent=_percent, count=_count, breakable=_breakable, known=lambda value: not math.isnan(value)
    )
    environment.globals.update(
        version=__version__, most_classes=MOST_CLASSES, most_ways=MOST_WAYS, most_problems=MOST_PROBLEMS
    )
    return environment.get_template(template).render(**values)


def _breakable(name: str) -> Any:
    """The escaped name, which may go on in the next line after '_' and '/' too."""
    from markupsafe import Markup, escape

    return Markup(re.sub("([_/])", r"\1<wbr>", str(escape(name))))


def _percent(value: float, digits: int = 1) -> str:
    """0.8123 -> '81.2 %', with a space that does not break; '–' where it is unknown."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%"


def _count(number: int, one: str, many: str | None = None) -> str:
    """1 'task', 2 'tasks', 1,000 'tasks'."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _summary(prediction: Prediction, tasks: list[TaskNumbers]) -> dict[str, Any]:
    results = prediction.results
    sure = results.confidence[~np.isnan(results.confidence)].astype(np.float64)
    estimates = [task.estimate.accuracy for task in tasks if task.estimate is not None]
    known = results.truth != UNKNOWN
    return {
        "tasks": len(tasks),
        "queries": len(results.row),
        "supports": int(sum(len(episode.support) for episode in prediction.episodes)),
        "classes": len({name for episode in prediction.episodes for name in episode.class_names}),
        "unreadable": len(prediction.embeddings.problems),
        "unanswered": results.unanswered,
        "confidence": float(sure.mean()) if len(sure) else math.nan,
        "estimate": mean_interval(estimates),
        "estimated": len(estimates),
        "accuracy": (results.mean, results.ci95),
        "with_truth": int((~np.isnan(results.accuracy)).sum()),
        "known": int(known.sum()),
        "wrong": int((known & (results.predicted != results.truth)).sum()),
        "calibration_error": _calibration_error(results),
    }


def _calibration_error(results: Results) -> float:
    known = (results.truth != UNKNOWN) & ~np.isnan(results.confidence)
    if not known.any():
        return math.nan
    # float32 rounds a sure answer to a hair above 1.
    sure = np.minimum(results.confidence[known].astype(np.float64), 1.0)
    return expected_calibration_error(sure, (results.predicted == results.truth)[known])


def _overall_confusion(prediction: Prediction) -> Any:
    """Over all tasks, where they share few enough classes for a matrix to be read."""
    names: dict[str, None] = {}
    for episode in prediction.episodes:
        names.update(dict.fromkeys(episode.class_names))
    if len(prediction.episodes) < 2 or len(names) > MOST_WAYS:
        return None
    results = prediction.results
    return confusion(results, slice(0, len(results.row)), tuple(sorted(names)))


def _problems(prediction: Prediction) -> dict[str, Any]:
    unreadable = sorted(prediction.unreadable.items())
    return {
        "unreadable": unreadable[:MOST_PROBLEMS],
        "more_unreadable": max(0, len(unreadable) - MOST_PROBLEMS),
        "lost": prediction.lost_classes[:MOST_PROBLEMS],
        "more_lost": max(0, len(prediction.lost_classes) - MOST_PROBLEMS),
        "passed_over": prediction.table.passed_over.summary(),
    }
