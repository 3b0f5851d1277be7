"""`fewshot score`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from episodes.errors import UsageError
from episodes.predictions import NEEDED, UNKNOWN_LABEL, parse_columns
from episodes.wording import counted
from fewshot.commands.common import print_json
from fewshot.registry import COMMANDS


@dataclass(frozen=True, kw_only=True)
class Options:
    """Accuracy of a result CSV: the mean over tasks, with its 95 % intervals over tasks and for new classes."""

    result: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RESULT.csv")]
    """A CSV that 'fewshot predict' wrote, or any with the columns task, image and label."""
    truth: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="TRUTH.csv")]
    """A CSV with the columns task, image and label."""
    columns: Annotated[str, tyro.conf.arg(metavar="NAME=CALLED,...")] = ",".join(NEEDED)
    """What the columns are called in either file, as 'fewshot predict --columns' takes it: image=filename,label=class."""
    json: bool = False
    """Print one machine-readable document and nothing else."""


@COMMANDS.register("score", "accuracy of a result CSV against a truth CSV", position=5)
def run(options: Options) -> int:
    """Score, and print."""
    from episodes import score_predictions
    from fewshot.console import interval, percent

    try:
        called = parse_columns(options.columns)
    except UsageError as error:
        raise UsageError(f"--{error}") from error
    score = score_predictions(options.result, options.truth, called)
    if options.json:
        print_json({name: value for name, value in dataclasses.asdict(score).items() if name != "per_task"})
        return 0
    known = " (95 % interval)" if score.ci95 == score.ci95 else ""
    sizes = f"over {counted(score.tasks, 'task')}, {counted(score.images, 'picture')}"
    print(f"{percent(score.accuracy, score.ci95)}{known} {sizes}")
    if score.new_classes_low == score.new_classes_low:
        found = interval(score.new_classes_low, score.new_classes_high)
        print(
            f"for new classes: {found} (95 % interval), if the {score.classes} names are the same classes in all tasks"
        )
    if score.coverage < 1:
        right = percent(score.accuracy_answered, score.ci95_answered)
        print(
            f"{100 * score.coverage:.1f} % of the pictures have an answer, of which {right} are right; above, those without one "
            f"(empty or {UNKNOWN_LABEL}) count as wrong"
        )
    return 0
