"""The rows of `fewshot evaluate`: one encoder, its classifiers, every setting of episodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from episodes.errors import DataError
from episodes.files import display_name
from episodes.wording import counted
from fewshot.commands.common import calibration_for, statistics_for, steps_for, texts_for
from fewshot.commands.evaluate_options import Options

if TYPE_CHECKING:
    from episodes import ImageTable, Score
    from fewshot.embedding.embed import Embeddings
    from fewshot.encoders.base import Embedder
    from fewshot.evaluation import EpisodeSet, EvaluationRow
    from fewshot.opening import LoadedEncoder


def measure(
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
