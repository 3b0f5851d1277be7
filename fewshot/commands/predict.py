"""`fewshot predict`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from episodes.errors import DataError, UsageError
from episodes.predictions import COLUMNS
from fewshot.commands.common import (
    WithClassifier,
    WithEncoder,
    check_writable,
    load_chosen_encoder,
    print_json,
    refuse_views_with_adapt,
    statistics_for,
    texts_for,
)
from fewshot.limits import Within
from fewshot.options import own_fields_first
from fewshot.registry import CLASSIFIERS, COMMANDS

if TYPE_CHECKING:
    import pandas as pd

    from fewshot.classifiers import Classifier
    from fewshot.commands.common import LoadedEncoder
    from fewshot.predict import Prediction


@own_fields_first
@dataclass(frozen=True, kw_only=True)
class Options(WithClassifier):
    """Name the query pictures of a directory of tasks."""

    test_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="TEST_DIR")]
    """The folder that holds testB/, a folder of tasks, or one task."""
    result: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RESULT.csv")]
    """The CSV to write: task,image,label,confidence."""
    classifier: Annotated[str, tyro.conf.arg(help=f"The few-shot method: {CLASSIFIERS.describe()}.")] = "prototype"
    adapt: Literal["blocks", "norms", "projection"] | None = None
    """Tune this part of the encoder on each task's support pictures first; slower, for pictures unlike any seen before."""
    report: Path | None = None
    """Write a page with every task's pictures, answers and confidences there too: FILE.html."""
    reject: Annotated[float, Within(0, 1, above=True, below=True)] | None = None
    """Answer "unknown" where the confidence is so low that this share of pictures of foreign classes would still be
    taken for one of the task's (such as 0.05); needs a checkpoint, which knows its confidences."""
    columns: str = ",".join(COLUMNS)
    """Which columns the CSV has, in which order."""
    defuse_formulas: bool = False
    """Put ' before names in the CSV that a spreadsheet would compute: those that begin with = + - @, a tab or a line's end.
    'fewshot score' reads both."""


@COMMANDS.register(
    "predict", "name the query pictures of a directory of tasks, into a CSV", position=2, every_process=True
)
def run(options: Options) -> int:
    """Predict, and write the CSV; 3 where some picture could not be read."""
    from episodes import write_predictions
    from fewshot.classifiers import build_classifier
    from fewshot.predict import reject
    from fewshot.report import write_prediction_report

    columns = _checked_columns(options)
    console = options.console
    loaded = load_chosen_encoder(options)
    refuse_views_with_adapt(options.adapt, loaded.encoder)
    known = (loaded.checkpoint.calibration if loaded.checkpoint else {}).get(options.classifier)
    if options.adapt is not None:
        known = None  # measured without adaptation, it says nothing about the adapted encoder
    threshold = _threshold(options, known)
    classifier = build_classifier(options.classifier, statistics=statistics_for(options, loaded))
    prediction = _predict(options, loaded, classifier, known["temperature"] if known else 1.0)
    if prediction is None:
        return 0
    if prediction.table.passed_over.summary():
        console.line(prediction.table.passed_over.summary())
    name_problems(prediction, options)
    frame = prediction.frame if threshold is None else reject(prediction.frame, threshold)
    write_predictions(frame, options.result, columns, defuse_formulas=options.defuse_formulas)
    if options.report is not None:
        write_prediction_report(
            prediction,
            options.report,
            backbone=loaded.backbone,
            classifier=options.classifier,
            checkpoint=loaded.checkpoint_name,
            tuned=loaded.checkpoint.tuned if loaded.checkpoint else False,
            calibrated=known is not None,
            method=classifier if options.adapt is None else None,  # the estimate is made on features as they are
        )
        console.line(f"report: {options.report}")
    _report_result(options, loaded, prediction, frame, known, threshold)
    return 3 if prediction.embeddings.problems or prediction.faults else 0


def _predict(options: Options, loaded: LoadedEncoder, classifier: Classifier, temperature: float) -> Prediction | None:
    """The answers; None in all but the first of several processes, which only help with the embedding."""
    from episodes import read_task_directory
    from fewshot.adaptation import build_adapter
    from fewshot.distributed import process_group, rank_and_world
    from fewshot.embedding.distributed import embed_distributed
    from fewshot.predict import predict

    how: Any = {"precision": options.precision, "workers": options.workers, "cache": options.cache}
    with process_group(), options.console.bar("pictures") as advance:
        if rank_and_world()[0] > 0:
            table, _ = read_task_directory(options.test_dir, find_truth=False)
            embed_distributed(loaded.encoder, table.items, **how)
            return None
        # The answers never look at the truth; a page that people read shows it where it is there.
        return predict(
            options.test_dir,
            loaded.encoder,
            classifier,
            temperature=temperature,
            adapter=build_adapter(options.adapt) if options.adapt else None,
            seed=options.seed,
            class_text=lambda names: texts_for(options, loaded, [options.classifier], names),
            find_truth=options.report is not None,
            progress=advance,
            embed=embed_distributed,
            **how,
        )


def _checked_columns(options: Options) -> list[str]:
    """The CSV's columns, with every output known to be writable.

    Raises:
        UsageError: a column that there is not, one given twice, or none.
        DataError: an output that cannot be written.
    """
    columns = [name.strip() for name in options.columns.split(",") if name.strip()]
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown or not columns or len(set(columns)) < len(columns):
        raise UsageError(f"--columns {options.columns!r}: expected distinct names out of {','.join(COLUMNS)}")
    if options.report is not None and options.report.resolve() == options.result.resolve():
        raise UsageError(f"--report {options.report}: is RESULT.csv itself; give the page a name of its own")
    for path in (options.result, options.report):
        if path is not None:
            check_writable(path)
    return columns


def _report_result(
    options: Options,
    loaded: LoadedEncoder,
    prediction: Prediction,
    frame: pd.DataFrame,
    known: dict[str, Any] | None,
    threshold: float | None,
) -> None:
    """What standard output says at the end."""
    from fewshot.classifiers.calibration import describe as describe_calibration
    from fewshot.predict import UNKNOWN_LABEL

    if options.json:
        print_json(
            {
                "rows": len(frame),
                "tasks": len(prediction.episodes),
                "unreadable": sorted(prediction.unreadable),
                "faults": list(prediction.faults),
                "output": str(options.result),
                "backbone": loaded.backbone,
                "checkpoint": loaded.checkpoint_name,
            }
        )
        return
    sure = "confidence uncalibrated"
    if known is not None:
        sure = f"confidence calibrated on validation episodes ({describe_calibration(known)})"
    left = int((frame["label"] == "").sum())
    named = f"{len(frame)} pictures of {len(prediction.episodes)} tasks named"
    if left or prediction.faults:
        named = f"{len(frame) - left} of {named}, {left} without an answer"
    if prediction.faults:
        named += f"; broken tasks: {len(prediction.faults)} (named above)"
    print(f"{options.result}: {named}; {sure}")
    if threshold is not None:
        print(f"{(frame['label'] == UNKNOWN_LABEL).sum()} of them as unknown, below a confidence of {threshold:.4f}")


def _threshold(options: Options, known: dict[str, Any] | None) -> float | None:
    """The confidence below which --reject answers "unknown".

    Raises:
        UsageError: a rate outside (0, 1), or nothing is known about confidences.
    """
    if options.reject is None:
        return None
    from fewshot.predict import reject_confidence

    return reject_confidence(known, options.reject, options.classifier)


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
            f"{len(prediction.embeddings.problems)} pictures cannot be read, {len(prediction.faults)} tasks are broken "
            "(named above). Mend or remove them, or go without --strict; "
            "nothing was written"
        )
