"""One HTML file that shows what was predicted: no network, one script whose hash is in the policy, pictures inside, bounded in size.

Everything that comes from a folder or a file is escaped by the templates, the script sets it as text, and a content security
policy forbids the page to run anything else, or to load anything, whatever a class folder is called.
"""

from __future__ import annotations

import base64
import hashlib
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from episodes import UNKNOWN, Results, mean_interval
from episodes.files import atomic_write, display_name
from fewshot.classifiers import TRANSDUCTIVE
from fewshot.classifiers.base import Classifier
from fewshot.classifiers.calibration import expected_calibration_error
from fewshot.embedding.embed import Progress
from fewshot.predict import Prediction
from fewshot.report.breakdown import by_setting, reliability
from fewshot.report.document import as_script_data
from fewshot.report.numbers import TaskNumbers, confusion, histogram, number_classes, number_tasks
from fewshot.report.pictures import choose_pictures
from fewshot.report.telling import confident_mistakes
from fewshot.version import __version__

TEMPLATES = Path(__file__).parent / "templates"
MOST_CLASSES, MOST_PROBLEMS, MOST_WAYS, MOST_SETTINGS = 100, 50, 20, 24
PICTURE_BYTES = 10_000_000


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
        picture_bytes: what all thumbnails together may take; every task gets a share, what is left out is counted.
        progress: told (tasks done, tasks in all) while the estimates are made, which is what takes time.

    Raises:
        DataError: the place cannot be written.
    """
    tasks = number_tasks(prediction, method, progress)
    settings = {
        "backbone": backbone,
        "checkpoint": None if checkpoint is None else display_name(checkpoint),
        "tuned": tuned,
        "classifier": classifier,
        "transductive": method.transductive if method is not None else classifier in TRANSDUCTIVE,
        "calibrated": calibrated,
    }
    write_page(prediction, path, tasks, settings, picture_bytes)


def write_page(
    prediction: Prediction,
    path: str | os.PathLike[str],
    tasks: Sequence[TaskNumbers],
    settings: Mapping[str, Any],
    picture_bytes: int = PICTURE_BYTES,
    **more: Any,
) -> None:
    """The page from its numbers.

    Args:
        prediction: as for `write_prediction_report`.
        path: likewise.
        tasks: the numbers of every task.
        settings: how it was made, as `write_prediction_report` puts them together.
        picture_bytes: likewise.
        more: further values for the template.
    """
    pictures = choose_pictures(prediction, tasks, picture_bytes)
    classes = number_classes(prediction.results)
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    values: dict[str, Any] = {"measured": (), "comparisons": (), "explored": ""} | more
    page = render(
        "prediction.html",
        settings=settings,
        summary=_summary(prediction, tasks),
        histogram=histogram(prediction.results),
        reliability=reliability(prediction.results),
        by_setting=by_setting(tasks),
        problems=_problems(prediction),
        mistake_count=len(confident_mistakes(prediction.results)),
        classes=classes,
        confusion=_overall_confusion(prediction),
        script=_safe(script),
        script_hash=_hash(script),
        **vars(pictures),
        **values,
    )
    with atomic_write(path) as file:
        file.write(page)


def _safe(text: str) -> Any:
    """Text of our own that is markup already."""
    from markupsafe import Markup

    return Markup(text)


def _hash(script: str) -> str:
    """What a content security policy calls a script that it lets run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")


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
        percent=_percent,
        count=_count,
        breakable=_breakable,
        known=lambda value: not math.isnan(value),
        sortable=lambda value: "" if math.isnan(value) else f"{value:.6f}",
        script_data=lambda value: _safe(as_script_data(value)),
    )
    environment.globals.update(
        version=__version__, most_classes=MOST_CLASSES, most_ways=MOST_WAYS, most_settings=MOST_SETTINGS
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


def _summary(prediction: Prediction, tasks: Sequence[TaskNumbers]) -> dict[str, Any]:
    results = prediction.results
    sure = results.confidence[~np.isnan(results.confidence)].astype(np.float64)
    estimates = [task.estimate for task in tasks if task.estimate is not None]
    known = results.truth != UNKNOWN
    return {
        "tasks": len(tasks),
        "queries": len(results.row),
        "supports": int(sum(len(episode.support) for episode in prediction.episodes)),
        "classes": len({name for episode in prediction.episodes for name in episode.class_names}),
        "unreadable": len(prediction.embeddings.problems),
        "unanswered": results.unanswered,
        "confidence": float(sure.mean()) if len(sure) else math.nan,
        "estimate": mean_interval([estimate.accuracy for estimate in estimates]),
        "estimated": len(estimates),
        "estimate_interval": estimates[0].interval if len(estimates) == 1 else None,  # of several, the mean's is shown
        "accuracy": (results.mean, results.ci95),
        "new_classes": results.new_classes,
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
