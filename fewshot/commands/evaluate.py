"""`fewshot evaluate`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from episodes.errors import DataError, UsageError
from episodes.files import display_name
from episodes.wording import counted
from fewshot.commands.common import (
    WithClassifier,
    calibration_for,
    check_adaptable,
    load_chosen_encoder,
    print_json,
    statistics_for,
    steps_for,
    texts_for,
    weights_file,
)
from fewshot.commands.outputs import check_outputs
from fewshot.limits import Count, CountOrRangeText, WaysText
from fewshot.options import own_fields_first
from fewshot.registry import CLASSIFIERS, COMMANDS

if TYPE_CHECKING:
    from episodes import ImageTable, Score
    from fewshot.embedding.embed import Embeddings
    from fewshot.encoders.base import Embedder
    from fewshot.evaluation import Comparison, EpisodeSet, EvaluationRow
    from fewshot.opening import LoadedEncoder

_OUTPUTS = ("output", "answers", "per_class", "confusion")


@own_fields_first
@dataclass(frozen=True, kw_only=True)
class Options(WithClassifier):
    """Few-shot accuracy with its 95 % interval; with a checkpoint, beside the untouched encoder's, and by its own method."""

    data_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA_DIR")]
    """Class folders, or a directory of tasks with a truth.csv."""
    classifier: Annotated[tuple[str, ...], tyro.conf.arg(help=f"The few-shot methods: {CLASSIFIERS.describe()}.")] = (
        "prototype",
    )
    ways: tuple[WaysText, ...] = ("5",)
    """Classes an episode; several numbers are several settings, 5-20 draws anew for each episode."""
    shots: tuple[CountOrRangeText, ...] = ("1", "5")
    """Support pictures a class; several numbers are several settings, 1-10 draws anew for each episode."""
    shots_per_class: bool = False
    """A range of shots is drawn for each class, not for each episode."""
    queries: Count = 15
    """Query pictures a class."""
    episodes: Count = 600
    """How many episodes."""
    query_balance: str = "even"
    """even, or dirichlet:2 for query sets that are unbalanced by a Dirichlet distribution of that concentration."""
    nested: bool = False
    """Class folders lie deeper: DATA_DIR/<group>/<class>/<picture>."""
    adapt: Literal["blocks", "norms", "projection"] | None = None
    """Measure also with this part of the encoder tuned on each task's support pictures, as CLASSIFIER+PART."""
    compare: tuple[str, str] | None = None
    """Two classifiers, or two encoders (checkpoint folders or 'untouched'), to be compared on the same episodes."""
    output: Path | None = None
    """Write the table there too: .csv or .parquet with every number, .md or .tex as it is printed."""
    answers: Path | None = None
    """Write every query's answer and truth there: .csv or .parquet."""
    per_class: Path | None = None
    """Write each row's accuracy by class there, worst class first: .csv or .parquet."""
    confusion: Path | None = None
    """Write the last row's confusion matrix there, as .csv."""
    report: Path | None = None
    """Write a page there too: FILE.html, with the table, the pictures of mistakes, and every episode to look into."""
    defuse_formulas: bool = False
    """Put ' before names in CSVs that a spreadsheet would compute: those that begin with = + - @, a tab or a line's end."""


@COMMANDS.register(
    "evaluate", "few-shot accuracy with its interval, on class folders or on tasks with a truth.csv", position=3
)
def run(options: Options) -> int:
    """Evaluate, and print a table; 3 where some picture could not be read."""
    from fewshot.commands.evaluate_output import details, table_of, write_tables
    from fewshot.evaluation import compare, read_episode_sets

    _check_outputs(options)
    table, sets = read_episode_sets(
        options.data_dir,
        ways=options.ways,
        shots=options.shots,
        queries=options.queries,
        episodes=options.episodes,
        seed=options.seed,
        nested=options.nested,
        shots_per_class=options.shots_per_class,
        query_balance=parse_balance(options.query_balance),
    )
    _tell(options, table, sets)
    encoders = _encoders(options)
    _guard(options, table, encoders)
    for each in encoders:
        check_adaptable(options.adapt or _stepped_by(each), each.encoder)
    problems: dict[int, str] = {}
    rows: list[EvaluationRow] = []
    embeddings: Embeddings | None = None
    for loaded in encoders:
        measured = any(row.checkpoint is None and row.backbone == loaded.backbone for row in rows)
        if loaded.checkpoint is not None and loaded.checkpoint.tuned and not measured:
            untouched = loaded.checkpoint.untouched_encoder()
            more, _ = _rows(options, table, sets, loaded, untouched, None, problems)
            rows += more
        more, embeddings = _rows(options, table, sets, loaded, loaded.encoder, loaded.checkpoint_name, problems)
        rows += more
    comparisons = compare(rows, *options.compare) if options.compare else []
    write_tables(
        table,
        rows,
        output=options.output,
        answers=options.answers,
        per_class=options.per_class,
        matrix=options.confusion,
        defuse_formulas=options.defuse_formulas,
    )
    if options.report is not None and embeddings is not None:
        _write_report(options, options.report, table, sets, rows, comparisons, embeddings, encoders[-1])
    if options.json:
        documents = [row.document for row in rows]
        pairs = [comparison.document for comparison in comparisons]
        print_json({"rows": documents, "comparisons": pairs} if options.compare else documents)
    else:
        print(table_of(rows))
        print(details(rows, comparisons))
    return 3 if problems or table.passed_over.faults else 0


def parse_balance(text: str) -> float | None:
    """Read the balance of queries: "even" -> None, "dirichlet:2" -> 2.0.

    Raises:
        UsageError: anything else.
    """
    kind, _, number = text.partition(":")
    if text == "even":
        return None
    try:
        if kind == "dirichlet" and float(number) > 0:
            return float(number)
    except ValueError:
        pass
    raise UsageError(
        f"--query_balance {text!r}: expected 'even', or 'dirichlet:' and a positive number such as dirichlet:2"
    )


def _check_outputs(options: Options) -> None:
    """Refuse outputs that could not be written, before anything is computed."""
    for flag in _OUTPUTS:
        path = getattr(options, flag)
        if path is None:
            continue
        allowed = {"confusion": (".csv",), "output": (".csv", ".parquet", ".md", ".tex")}.get(
            flag, (".csv", ".parquet")
        )
        if path.suffix not in allowed:
            raise UsageError(f"--{flag} {path}: expected a file name that ends in {' or '.join(allowed)}")
    if options.report is not None and options.report.suffix.lower() != ".html":
        raise UsageError(f"--report {options.report}: expected a file name that ends in .html")
    others = [Path(name) for name in options.compare or () if Path(name).is_dir()]
    check_outputs(
        {f"--{flag}": getattr(options, flag) for flag in (*_OUTPUTS, "report")},
        (options.data_dir, options.checkpoint, options.statistics, weights_file(options), *others),
    )


def _tell(options: Options, table: ImageTable, sets: list[EpisodeSet]) -> None:
    """What was found, what was passed over, what had to shrink, and what support and query share."""
    from episodes import EpisodeSampler
    from episodes.leakage import shared_within_tasks

    console = options.console
    console.line(f"{options.data_dir}: {table.summary()}")
    if table.passed_over.summary():
        console.line(f"  {table.passed_over.summary()}")
    for fault in table.passed_over.faults:
        console.warn(fault)
    if table.passed_over.faults and options.strict:
        raise DataError(
            f"{options.data_dir}: tasks are broken (named above). Mend or remove them, or go without --strict"
        )
    for group in sets:
        if isinstance(group.episodes, EpisodeSampler):
            eligible, needed = len(group.episodes.eligible), group.episodes.max_shots + group.episodes.queries
            if group is sets[0] and eligible < len(table.class_names):
                console.line(
                    f"  {eligible} of {len(table.class_names)} classes have the {needed} pictures that an episode needs; the others "
                    "take no part"
                )
            shrunk = group.episodes.shrunk_queries() if group.episodes.query_balance is not None else None
            if shrunk is not None and shrunk.shrunk:
                console.line(f"  {group.ways}-way {group.shots}-shot: {shrunk.summary()}")
        else:
            shared = shared_within_tasks(table, group.episodes)
            if shared and options.strict:
                raise DataError(f"{options.data_dir}: {shared.summary()}. Remove them, or go without --strict")
            if shared:
                console.warn(f"{options.data_dir}: {shared.summary()}; accuracy will look better than it is")


def _guard(options: Options, table: ImageTable, encoders: list[LoadedEncoder]) -> None:
    """Tell, or with `strict` refuse, classes that a checkpoint was trained or validated on; tell those of the pretraining.

    Raises:
        DataError: there are some of a checkpoint's, and `strict`.
    """
    from episodes.leakage import SharedClasses
    from fewshot.encoders.leakage import pretraining_warning

    for backbone in dict.fromkeys(loaded.backbone for loaded in encoders):
        seen = pretraining_warning(str(options.data_dir), backbone, table.class_names)
        if seen is not None:
            options.console.warn(seen)
    for loaded in encoders:
        if loaded.checkpoint is None:
            continue
        for what, known in (
            ("trained", loaded.checkpoint.class_names),
            ("validated", loaded.checkpoint.config.get("validation_classes", ())),
        ):
            shared = SharedClasses(tuple(name for name in table.class_names if name in set(known)))
            if not shared:
                continue
            text = f"{options.data_dir} and what {loaded.checkpoint_name} was {what} on: {shared.summary()}"
            if options.strict:
                raise DataError(f"{text}. Choose other classes, or go without --strict")
            options.console.warn(f"{text}; accuracy may look better than it is")


def _encoders(options: Options) -> list[LoadedEncoder]:
    """The encoder that was asked for, and those that --compare names."""
    found = []
    if options.checkpoint is None and options.compare is not None:
        paths = [Path(name) for name in options.compare if (Path(name) / "config.json").is_file()]
        found = [load_chosen_encoder(dataclasses.replace(options, checkpoint=path)) for path in paths]
    elif options.checkpoint is not None and options.compare is not None:
        others = [Path(n) for n in options.compare if (Path(n) / "config.json").is_file()]
        paths = [options.checkpoint, *(path for path in others if str(path) != str(options.checkpoint))]
        found = [load_chosen_encoder(dataclasses.replace(options, checkpoint=path)) for path in paths]
    return found or [load_chosen_encoder(options)]


def _rows(
    options: Options,
    table: ImageTable,
    sets: list[EpisodeSet],
    loaded: LoadedEncoder,
    encoder: Embedder,
    checkpoint: str | None,
    problems: dict[int, str],
) -> tuple[list[EvaluationRow], Embeddings]:
    """The rows of one encoder, and its embeddings; unreadable pictures are named the first time they are met."""
    from fewshot.classifiers import build_classifier
    from fewshot.evaluation import evaluate_sets, rows_of

    untouched = loaded.checkpoint is not None and checkpoint is None
    statistics = statistics_for(options, loaded, options.classifier, untouched=untouched)
    steps = steps_for(options, loaded)
    classifiers = {
        name: build_classifier(name, statistics=statistics, encoder=encoder, steps=steps) for name in options.classifier
    }
    texts = texts_for(options, loaded, options.classifier, table.class_names)
    embeddings = _embed(options, table, encoder)
    if not problems and embeddings.problems:
        problems.update(embeddings.problems)
        for path, problem in zip(table.paths(problems), problems.values(), strict=True):
            options.console.warn(f"{display_name(path)}: cannot be read ({problem}); as a query it counts as wrong")
        if options.strict:
            raise DataError(
                f"{counted(len(problems), 'picture')} cannot be read (named above). Mend or remove them, or go without --strict"
            )
    rows = evaluate_sets(
        sets,
        embeddings,
        classifiers,
        backbone=loaded.backbone,
        checkpoint=checkpoint,
        class_text=texts,
        adapt=_adaptation(options, table, encoder),
        calibrations=calibration_for(options, loaded, untouched=untouched),
        device=encoder.device,
    )
    method = loaded.checkpoint.own_method if loaded.checkpoint is not None and not untouched else None
    if loaded.checkpoint is not None and method is not None:
        from fewshot.adaptation.meta import score_of
        from fewshot.embedding.deferred import opened

        own = score_of(method, loaded.checkpoint.scale, opened(encoder), table, embeddings, precision=options.precision)
        rows += rows_of(method.name, own, sets, loaded.backbone, checkpoint)
    return rows, embeddings


def _write_report(
    options: Options,
    path: Path,
    table: ImageTable,
    sets: list[EpisodeSet],
    rows: list[EvaluationRow],
    comparisons: list[Comparison],
    embeddings: Embeddings,
    loaded: LoadedEncoder,
) -> None:
    """The page of --report, whose pictures are of the last encoder."""
    from fewshot.commands.evaluate_output import comparison_lines
    from fewshot.report import write_evaluation_report

    checkpoint = loaded.checkpoint
    write_evaluation_report(
        path,
        table,
        sets,
        rows,
        embeddings,
        comparisons=comparison_lines(comparisons),
        tuned=checkpoint is not None and checkpoint.tuned,
        calibrated=tuple(calibration_for(options, loaded)),
    )
    options.console.line(f"report: {path}")


def _stepped_by(loaded: LoadedEncoder) -> str | None:
    """The method of a checkpoint that steps the encoder on every task."""
    method = loaded.checkpoint.own_method if loaded.checkpoint is not None else None
    return method.name if method is not None and method.steps_encoder else None


def _adaptation(
    options: Options, table: ImageTable, encoder: Embedder
) -> Callable[[Embeddings, Callable[[Embeddings], Score]], dict[str, Score]] | None:
    """What makes the scores of --adapt; None without."""
    if options.adapt is None:
        return None
    from fewshot.adaptation import AdaptedScorer, build_adapter
    from fewshot.embedding.deferred import opened

    part, adapter = options.adapt, build_adapter(options.adapt)

    def adapt(embeddings: Embeddings, scorer: Callable[[Embeddings], Score]) -> dict[str, Score]:
        adapted = AdaptedScorer(
            opened(encoder), adapter, table, embeddings, scorer, seed=options.seed, precision=options.precision
        )
        return {part: adapted}

    return adapt


def _embed(options: Options, table: ImageTable, encoder: Embedder) -> Embeddings:
    from fewshot.embedding.embed import embed_images

    with options.console.bar("pictures") as advance:
        return embed_images(
            encoder,
            table.items,
            precision=options.precision,
            workers=options.workers,
            cache=options.cache,
            progress=advance,
        )
