"""`fewshot evaluate`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot.commands.common import calibration_for, check_adaptable, load_chosen_encoder, print_json
from fewshot.commands.evaluate_options import Options, parse_balance, refuse_outputs
from fewshot.registry import COMMANDS

if TYPE_CHECKING:
    from episodes import ImageTable
    from fewshot.embedding.embed import Embeddings
    from fewshot.evaluation import Comparison, EpisodeSet, EvaluationRow
    from fewshot.opening import LoadedEncoder

__all__ = ["Options", "run"]


@COMMANDS.register(
    "evaluate", "few-shot accuracy with its interval, on class folders or on tasks with a truth.csv", position=3
)
def run(options: Options) -> int:
    """Evaluate, and print a table; 3 where some picture could not be read."""
    from fewshot.commands.evaluate_notes import tell_found, tell_seen_classes
    from fewshot.commands.evaluate_output import details, table_of, write_tables
    from fewshot.evaluation import compare, read_episode_sets

    refuse_outputs(options)
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
    tell_found(options, table, sets)
    encoders = _encoders(options)
    tell_seen_classes(options, table, encoders)
    for each in encoders:
        check_adaptable(options.adapt or _stepped_by(each), each.encoder)
    rows, embeddings, unreadable = _measured(options, table, sets, encoders)
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
    if options.report is not None:
        _write_report(options, options.report, table, sets, rows, comparisons, embeddings, encoders[-1])
    if options.json:
        documents = [row.document for row in rows]
        pairs = [comparison.document for comparison in comparisons]
        print_json({"rows": documents, "comparisons": pairs} if options.compare else documents)
    else:
        print(table_of(rows))
        print(details(rows, comparisons))
    return 3 if unreadable or table.passed_over.faults else 0


def _measured(
    options: Options, table: ImageTable, sets: list[EpisodeSet], encoders: list[LoadedEncoder]
) -> tuple[list[EvaluationRow], Embeddings, bool]:
    """The rows of every encoder, each untouched one before its tuned; the last one's embeddings; whether some picture was unreadable."""
    from fewshot.commands.evaluate_rows import measure

    problems: dict[int, str] = {}
    rows: list[EvaluationRow] = []
    for loaded in encoders:
        measured = any(row.checkpoint is None and row.backbone == loaded.backbone for row in rows)
        if loaded.checkpoint is not None and loaded.checkpoint.tuned and not measured:
            untouched = loaded.checkpoint.untouched_encoder()
            rows += measure(options, table, sets, loaded, untouched, None, problems)[0]
        more, embeddings = measure(options, table, sets, loaded, loaded.encoder, loaded.checkpoint_name, problems)
        rows += more
    return rows, embeddings, bool(problems)


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
