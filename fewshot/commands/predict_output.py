"""What `fewshot predict` says, and the page that it writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from episodes.errors import DataError
from episodes.wording import counted
from fewshot.commands.common import WithEncoder, print_json
from fewshot.commands.predict_options import Options
from fewshot.console import percent

if TYPE_CHECKING:
    from fewshot.classifiers import Classifier
    from fewshot.classifiers.kinds import Calibration
    from fewshot.classifiers.rejection import Rejection
    from fewshot.opening import LoadedEncoder
    from fewshot.predict import Columns, Prediction


def write_report(
    options: Options, loaded: LoadedEncoder, prediction: Prediction, classifier: Classifier | None, *, calibrated: bool
) -> None:
    """Write the page of `--report`; its estimate without labels is made with `classifier`, where there is one."""
    from fewshot.report import write_prediction_report

    assert options.report is not None
    write_prediction_report(
        prediction,
        options.report,
        backbone=loaded.backbone,
        classifier=options.named_by,
        checkpoint=loaded.checkpoint_name,
        tuned=loaded.checkpoint.tuned if loaded.checkpoint else False,
        calibrated=calibrated,
        method=classifier,
    )
    options.console.line(f"report: {options.report}")


def tell_result(
    options: Options,
    loaded: LoadedEncoder,
    prediction: Prediction,
    answers: Columns,
    known: Calibration | None,
    rejection: Rejection | None,
) -> None:
    """What standard output says at the end."""
    from episodes.predictions import UNKNOWN_LABEL

    results, rows = prediction.results, len(answers["label"])
    measured = any(episode.query_labels is not None for episode in prediction.episodes)
    if options.json:
        print_json(
            {
                "rows": rows,
                "tasks": len(prediction.episodes),
                "unreadable": sorted(prediction.unreadable),
                "faults": list(prediction.faults),
                "output": str(options.output),
                "backbone": loaded.backbone,
                "checkpoint": loaded.checkpoint_name,
                **({"accuracy": results.mean, "ci95": results.ci95} if measured else {}),
            }
        )
        return
    sure = "confidence uncalibrated"
    if known is not None:
        sure = f"confidence {known.in_short()}"
    left = int((answers["label"] == "").sum())
    named = f"{counted(rows, 'picture')} of {counted(len(prediction.episodes), 'task')} named"
    if left or prediction.faults:
        named = f"{rows - left} of {named}, {left} without an answer"
    if prediction.faults:
        named += f"; broken tasks: {len(prediction.faults)} (named above)"
    print(f"{options.output}: {named}; {sure}")
    if rejection is not None:
        unknown = int((answers["label"] == UNKNOWN_LABEL).sum())
        print(f"{unknown} of them as unknown, {rejection.describe(results.episode)}")
    if measured:
        before = " (before --reject)" if rejection is not None else ""
        over = f"{counted(len(results.names), 'task')}, {counted(rows, 'picture')}"
        print(f"accuracy{before}: {percent(results.mean, results.ci95)} over {over}")


def name_problems(prediction: Prediction, options: WithEncoder) -> None:
    """Name what is broken: tasks, unreadable pictures, and the classes that are lost by them.

    Raises:
        DataError: there are some, and `strict`.
    """
    console = options.console
    for fault in prediction.faults:
        console.warn(fault)
    for path, problem in sorted(prediction.unreadable.items()):
        console.warn(f"{path}: cannot be read ({problem})")
    for task, name in prediction.lost_classes:
        console.warn(f"{task}: class {name} has no readable support picture and cannot be predicted")
    if options.strict and (prediction.embeddings.problems or prediction.faults):
        raise DataError(
            f"{counted(len(prediction.embeddings.problems), 'picture')} cannot be read, "
            f"{counted(len(prediction.faults), 'task is', 'tasks are')} broken "
            "(named above). Mend or remove them, or go without --strict; "
            "nothing was written"
        )
