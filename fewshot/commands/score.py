"""`fewshot score`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fewshot.commands.common import print_json
from fewshot.registry import COMMANDS


@dataclass(frozen=True, kw_only=True)
class Options:
    """Accuracy of a result CSV: the mean over tasks, with its 95 % interval."""

    result: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RESULT.csv")]
    """A CSV that 'fewshot predict' wrote, or any with the columns task, image and label."""
    truth: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="TRUTH.csv")]
    """A CSV with the columns task, image and label."""
    json: bool = False
    """Print one machine-readable document and nothing else."""


@COMMANDS.register("score", "accuracy of a result CSV against a truth CSV", position=5)
def run(options: Options) -> int:
    """Score, and print."""
    from episodes import score_predictions
    from fewshot.console import percent

    score = score_predictions(options.result, options.truth)
    if options.json:
        print_json({"accuracy": score.accuracy, "ci95": score.ci95, "images": score.images, "tasks": score.tasks})
    else:
        print(
            f"{percent(score.accuracy, score.ci95)} (95 % interval) over {score.tasks} tasks, {score.images} pictures"
        )
    return 0
