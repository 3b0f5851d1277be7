"""`fewshot predict`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from episodes.errors import DataError, TruthError, UsageError
from episodes.predictions import COLUMNS, OFFERED, parse_columns
from episodes.wording import counted
from fewshot.commands.common import (
    WithClassifier,
    WithEncoder,
    calibration_for,
    check_adaptable,
    classifier_for,
    load_chosen_encoder,
    own_naming,
    print_json,
    texts_for,
    weights_file,
)
from fewshot.commands.outputs import check_outputs
from fewshot.console import percent
from fewshot.limits import Within
from fewshot.options import own_fields_first
from fewshot.registry import CLASSIFIERS, COMMANDS

if TYPE_CHECKING:
    from episodes import Episode, ImageTable
    from fewshot.adaptation import TaskAdapter
    from fewshot.classifiers import Classifier
    from fewshot.classifiers.kinds import Calibration
    from fewshot.classifiers.rejection import Rejection
    from fewshot.opening import LoadedEncoder
    from fewshot.predict import Columns, Prediction

_MORE = ", ".join(f"{name} ({text})" for name, text in OFFERED.items() if text)


@own_fields_first
@dataclass(frozen=True, kw_only=True)
class Options(WithClassifier):
    """Name pictures: the queries of a directory of tasks, or with --support and --query any pictures by any class folders."""

    test_dir: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="TEST_DIR")] = None
    """The folder that holds testB/, a folder of tasks, or one task; left out with --support."""
    result: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="RESULT.csv")] = None
    """The CSV to write: task,image,label,confidence."""
    support: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Instead of TEST_DIR: the folder with a folder of labelled pictures for each class."""
    query: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="DIR|FILE")] = ()
    """With --support: the pictures to name, and folders of them; RESULT.csv may follow."""
    truth: Annotated[Path | None, tyro.conf.arg(metavar="FILE.csv")] = None
    """The true labels, task,image,label (one task needs no task): says the accuracy, and shows the mistakes in --report. With
    --report a truth.csv beside the tasks is found by itself."""
    classifier: Annotated[str | None, tyro.conf.arg(help=(
        f"The few-shot method: {CLASSIFIERS.describe()}. Unless given, prototype, or the method that a checkpoint was trained with."
    ))] = None  # fmt: skip
    adapt: Literal["blocks", "norms", "projection"] | None = None
    """Tune this part of the encoder on each task's support pictures first; slower, for pictures unlike any seen before."""
    report: Path | None = None
    """Write a page with every task's pictures, answers and confidences there too: FILE.html."""
    reject: Annotated[float, Within(0, 1, above=True, below=True)] | None = None
    """Answer "unknown" where the confidence is so low that this share of pictures of foreign classes would still be
    taken for one of the task's (such as 0.05), by the task's ways and shots. Needs a checkpoint, or tiny, lite0 or lite2, which know
    their confidences; the output tells how many pictures of known classes that costs."""
    columns: Annotated[str, tyro.conf.arg(help=(
        f"Which columns the CSV has, in which order; there are also {_MORE}. image=filename,label=class gives them other names."
    ))] = ",".join(COLUMNS)  # fmt: skip
    sort: bool = False
    """The least sure answers first (by the margin, over all tasks); those without an answer before them."""
    defuse_formulas: bool = False
    """Put ' before names in the CSV that a spreadsheet would compute: those that begin with = + - @, a tab or a line's end.
    'fewshot score' reads both."""

    def __post_init__(self) -> None:
        """Find RESULT.csv among the names, whichever way the pictures are given.

        Raises:
            UsageError: it is missing, or one of the two ways is given by halves.
        """
        super().__post_init__()
        named = [path for path in (self.test_dir, self.result) if path is not None]
        queries = list(self.query)
        if self.support is None:
            if queries:
                raise UsageError(
                    "--query needs --support: the folder with a folder of labelled pictures for each class"
                )
            if len(named) < 2:
                raise UsageError("expected TEST_DIR RESULT.csv, or --support DIR --query DIR|FILE... RESULT.csv")
            return
        if not named and len(queries) > 1 and queries[-1].suffix.lower() == ".csv":
            named = [queries.pop()]  # --query takes every name up to the next option
        if len(named) != 1 or not queries:
            raise UsageError(
                f"expected --support DIR --query DIR|FILE... RESULT.csv, found {len(queries)} names to --query and {len(named)} "
                "others; the one other name is RESULT.csv, and TEST_DIR is left out"
            )
        for field, value in (("test_dir", None), ("result", named[0]), ("query", tuple(queries))):
            object.__setattr__(self, field, value)

    @property
    def named_by(self) -> str:
        """The few-shot method's name."""
        return self.classifier or "prototype"

    @property
    def output(self) -> Path:
        """RESULT.csv."""
        assert self.result is not None  # __post_init__ has seen to it
        return self.result


@COMMANDS.register(
    "predict", "name the query pictures of a directory of tasks, into a CSV", position=2, every_process=True
)
def run(options: Options) -> int:
    """Predict, and write the CSV; 3 where some picture could not be read."""
    from episodes import write_predictions
    from fewshot.adaptation import build_adapter
    from fewshot.classifiers.rejection import Rejection, known_confidence

    columns = _checked_columns(options)
    loaded = load_chosen_encoder(options)
    tasks = read_tasks(options)
    own = own_naming(options, loaded)
    if own is not None:
        options = dataclasses.replace(options, classifier=own.name)
    check_adaptable(options.adapt or (own.name if own and own.adapter else None), loaded.encoder)
    known = calibration_for(options, loaded).get(options.named_by)
    if options.adapt is not None:
        known = None  # measured without adaptation, it says nothing about the adapted encoder
    if options.reject is not None:
        known_confidence(known, options.named_by).check_rate(options.reject)
    classifier: Classifier
    adapter: TaskAdapter | None
    if own is not None:
        classifier, adapter = own.classifier, own.adapter
    else:
        classifier = classifier_for(options, loaded, options.named_by)
        adapter = build_adapter(options.adapt) if options.adapt else None
    prediction = _predict(options, loaded, tasks, classifier, adapter, known)
    if prediction is None:
        return 0
    if prediction.table.passed_over.summary():
        options.console.line(prediction.table.passed_over.summary())
    name_problems(prediction, options)
    rejection = None
    if options.reject is not None and known is not None:
        rejection = Rejection.of(options.reject, known, prediction.episodes, prediction.embeddings)
    answers = _answers(options, prediction, rejection)
    write_predictions(answers, options.output, columns, defuse_formulas=options.defuse_formulas)
    if options.report is not None:
        over_features = classifier if adapter is None else None  # what the page's estimate is made with
        _write_report(options, loaded, prediction, over_features, calibrated=known is not None)
    _report_result(options, loaded, prediction, answers, known, rejection)
    return 3 if prediction.embeddings.problems or prediction.faults else 0


def read_tasks(options: Options) -> tuple[ImageTable, list[Episode]]:
    """What is to be named, with the truth where it is given, or wanted for the page and found.

    A truth that was found and does not fit is told, and left alone: it is not what was asked for.

    Raises:
        DataError: nothing to name, or a truth that was given and does not fit.
    """
    from episodes import find_truth, read_support_and_query, read_task_directory
    from fewshot.distributed import rank_and_world

    if options.support is not None or options.test_dir is None:
        assert options.support is not None
        return read_support_and_query(options.support, options.query, options.truth)
    wanted = options.report is not None and options.truth is None and rank_and_world()[0] == 0
    found = find_truth(options.test_dir) if wanted else None
    if found is not None:
        try:
            tasks = read_task_directory(options.test_dir, found)
            options.console.line(f"truth: {found}, found beside the tasks")
            return tasks
        except TruthError as error:
            options.console.warn(f"{error}. Going on without it; --truth FILE gives another")
    return read_task_directory(options.test_dir, options.truth, find_truth=False)


def _predict(
    options: Options,
    loaded: LoadedEncoder,
    tasks: tuple[ImageTable, list[Episode]],
    classifier: Classifier,
    adapter: TaskAdapter | None,
    known: Calibration | None,
) -> Prediction | None:
    """The answers; None in all but the first of several processes, which only help with the embedding."""
    from fewshot.distributed import process_group, rank_and_world
    from fewshot.embedding.distributed import embed_distributed
    from fewshot.predict import predict

    how: Any = {"precision": options.precision, "workers": options.workers, "cache": options.cache}
    with process_group(), options.console.bar("pictures") as advance:
        if rank_and_world()[0] > 0:
            embed_distributed(loaded.encoder, tasks[0].items, **how)
            return None
        return predict(
            tasks,
            loaded.encoder,
            classifier,
            calibration=known,
            adapter=adapter,
            seed=options.seed,
            class_text=lambda names: texts_for(options, loaded, [options.named_by], names),
            progress=advance,
            embed=embed_distributed,
            **how,
        )


def _checked_columns(options: Options) -> dict[str, str]:
    """Column -> what it is called in the CSV, with every output known to be writable.

    Raises:
        UsageError: a column that there is not, one given twice, or none; or one for which something else is missing; an output that is
            an input.
        DataError: an output that cannot be written.
    """
    try:
        columns = parse_columns(options.columns)
    except UsageError as error:
        raise UsageError(f"--{error}") from error
    if "truth" in columns and options.truth is None:
        raise UsageError("--columns truth: the true labels are not known; give them with --truth FILE.csv")
    check_outputs(
        {"RESULT.csv": options.output, "--report": options.report},
        (
            options.test_dir,
            options.support,
            *options.query,
            options.truth,
            options.checkpoint,
            options.statistics,
            weights_file(options),
        ),
    )
    return columns


def _answers(options: Options, prediction: Prediction, rejection: Rejection | None) -> Columns:
    """The CSV's rows, by column."""
    from fewshot.predict import least_sure_first, reject

    answers = prediction.columns
    if rejection is not None:
        answers = reject(answers, rejection.thresholds[prediction.results.episode])
    return least_sure_first(answers) if options.sort else answers


def _write_report(
    options: Options, loaded: LoadedEncoder, prediction: Prediction, classifier: Classifier | None, *, calibrated: bool
) -> None:
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


def _report_result(
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
