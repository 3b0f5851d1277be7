"""`fewshot evaluate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from episodes.errors import DataError
from fewshot.commands.common import LoadedEncoder, WithEncoder, load_chosen_encoder, print_json

if TYPE_CHECKING:
    from episodes import ImageTable
    from fewshot.embeddings import Embeddings
    from fewshot.encoders.base import VisionEncoder
    from fewshot.evaluation import EpisodeSet, EvaluationRow


@dataclass(frozen=True, kw_only=True)
class Options(WithEncoder):
    """Few-shot accuracy with its 95 % interval; with a checkpoint, beside the untouched encoder's."""

    data_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA_DIR")]
    """Class folders, or a directory of tasks with a truth.csv."""
    classifier: tuple[str, ...] = ("prototype",)
    """The few-shot methods."""
    ways: tuple[int, ...] = (5,)
    """Classes an episode; several numbers are several settings."""
    shots: tuple[int, ...] = (1, 5)
    """Support pictures a class; several numbers are several settings."""
    queries: int = 15
    """Query pictures a class."""
    episodes: int = 600
    """How many episodes."""
    nested: bool = False
    """Class folders lie deeper: DATA_DIR/<group>/<class>/<picture>."""


def run(options: Options) -> int:
    """Evaluate, and print a table; 3 where some picture could not be read."""
    from fewshot.evaluation import read_episode_sets

    console = options.console
    table, sets = read_episode_sets(
        options.data_dir,
        ways=options.ways,
        shots=options.shots,
        queries=options.queries,
        episodes=options.episodes,
        seed=options.seed,
        nested=options.nested,
    )
    console.line(f"{options.data_dir}: {len(table)} pictures in {len(table.class_names)} classes")
    if table.passed_over.summary():
        console.line(f"  {table.passed_over.summary()}")
    loaded = load_chosen_encoder(options)
    rows: list[EvaluationRow] = []
    problems: dict[int, str] = {}
    if loaded.checkpoint is not None and loaded.checkpoint.tuned:
        untouched = loaded.checkpoint.untouched_encoder()
        rows += _rows(options, table, sets, loaded, untouched, None, problems)
    rows += _rows(options, table, sets, loaded, loaded.encoder, loaded.checkpoint_name, problems)
    if options.json:
        print_json([row.document for row in rows])
    else:
        print(table_of(rows))
    return 3 if problems else 0


def _rows(
    options: Options,
    table: ImageTable,
    sets: list[EpisodeSet],
    loaded: LoadedEncoder,
    encoder: VisionEncoder,
    checkpoint: str | None,
    problems: dict[int, str],
) -> list[EvaluationRow]:
    """The rows of one encoder; unreadable pictures are named the first time they are met."""
    from fewshot.classifiers import build_classifier
    from fewshot.evaluation import evaluate_sets

    statistics = None
    if loaded.checkpoint is not None:
        statistics = loaded.checkpoint.statistics if checkpoint else loaded.checkpoint.original_statistics
    classifiers = {name: build_classifier(name, statistics=statistics) for name in options.classifier}
    embeddings = _embed(options, table, encoder)
    if not problems and embeddings.problems:
        problems.update(embeddings.problems)
        for path, problem in zip(table.paths(problems), problems.values(), strict=True):
            options.console.warn(f"{path}: cannot be read ({problem}); as a query it counts as wrong")
        if options.strict:
            raise DataError(
                f"{len(problems)} pictures cannot be read (named above). Mend or remove them, or go without --strict"
            )
    return evaluate_sets(
        sets, embeddings, classifiers, backbone=loaded.backbone, checkpoint=checkpoint, device=encoder.device
    )


def _embed(options: Options, table: ImageTable, encoder: VisionEncoder) -> Embeddings:
    from fewshot.embeddings import embed_images

    with options.console.bar("pictures") as advance:
        return embed_images(
            encoder,
            table.items,
            precision=options.precision,
            workers=options.workers,
            cache=options.cache,
            progress=advance,
        )


def table_of(rows: list[EvaluationRow]) -> str:
    """The rows as aligned text."""
    from fewshot.console import percent

    def text(value: int | None) -> str:
        return "mixed" if value is None else str(value)

    head = ("encoder", "classifier", "ways", "shots", "queries", "episodes", "seed", "accuracy (95 % interval)")
    cells = [head]
    for row in rows:
        encoder = row.checkpoint or f"untouched {row.backbone}"
        accuracy = percent(row.results.mean, row.results.ci95)
        sizes = (text(row.ways), text(row.shots), text(row.queries), str(row.episodes))
        cells.append((encoder, row.classifier, *sizes, "-" if row.seed is None else str(row.seed), accuracy))
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )
