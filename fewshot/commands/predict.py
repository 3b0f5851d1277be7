"""`fewshot predict`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from episodes.errors import TruthError
from fewshot.commands.common import (
    calibration_for,
    check_adaptable,
    classifier_for,
    load_chosen_encoder,
    own_naming,
    texts_for,
)
from fewshot.commands.predict_options import Options, checked_columns
from fewshot.registry import COMMANDS

if TYPE_CHECKING:
    from episodes import Episode, ImageTable
    from fewshot.adaptation import TaskAdapter
    from fewshot.classifiers import Classifier
    from fewshot.classifiers.kinds import Calibration
    from fewshot.classifiers.rejection import Rejection
    from fewshot.opening import LoadedEncoder
    from fewshot.predict import Columns, Prediction

__all__ = ["Options", "run"]


@COMMANDS.register(
    "predict", "name the query pictures of a directory of tasks, into a CSV", position=2, every_process=True
)
def run(options: Options) -> int:
    """Predict, and write the CSV; 3 where some picture could not be read."""
    from episodes import write_predictions
    from fewshot.classifiers.rejection import Rejection
    from fewshot.commands.predict_output import name_problems, tell_result, write_report

    columns = checked_columns(options)
    loaded = load_chosen_encoder(options)
    tasks = read_tasks(options)
    options, classifier, adapter, known = _method(options, loaded)
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
        write_report(options, loaded, prediction, over_features, calibrated=known is not None)
    tell_result(options, loaded, prediction, answers, known, rejection)
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


def _method(
    options: Options, loaded: LoadedEncoder
) -> tuple[Options, Classifier, TaskAdapter | None, Calibration | None]:
    """Options that name the method, what names pictures, what tunes the encoder on a task first, and what its confidence means.

    Raises:
        UsageError: the method and the encoder do not go together, or `--reject` with a confidence of which nothing is known.
    """
    from fewshot.adaptation import build_adapter
    from fewshot.classifiers.rejection import known_confidence

    own = own_naming(options, loaded)
    if own is not None:
        options = dataclasses.replace(options, classifier=own.name)
    check_adaptable(options.adapt or (own.name if own and own.adapter else None), loaded.encoder)
    known = calibration_for(options, loaded).get(options.named_by)
    if options.adapt is not None:
        known = None  # measured without adaptation, it says nothing about the adapted encoder
    if options.reject is not None:
        known_confidence(known, options.named_by).check_rate(options.reject)
    if own is not None:
        return options, own.classifier, own.adapter, known
    adapter = build_adapter(options.adapt) if options.adapt else None
    return options, classifier_for(options, loaded, options.named_by), adapter, known


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


def _answers(options: Options, prediction: Prediction, rejection: Rejection | None) -> Columns:
    """The CSV's rows, by column."""
    from fewshot.predict import least_sure_first, reject

    answers = prediction.columns
    if rejection is not None:
        answers = reject(answers, rejection.thresholds[prediction.results.episode])
    return least_sure_first(answers) if options.sort else answers
