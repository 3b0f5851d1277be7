"""The page of an evaluation: the table of what was measured, and one encoder's answers to look into."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from episodes import Episode, ImageTable, Results
from fewshot.classifiers import TRANSDUCTIVE
from fewshot.embedding.embed import Embeddings
from fewshot.evaluation import EpisodeSet, EvaluationRow
from fewshot.predict import Prediction
from fewshot.report.numbers import number_tasks
from fewshot.report.page import PICTURE_BYTES, write_page

Int64Array = np.ndarray[Any, np.dtype[np.int64]]


def write_evaluation_report(
    path: str | os.PathLike[str],
    table: ImageTable,
    sets: Sequence[EpisodeSet],
    rows: Sequence[EvaluationRow],
    embeddings: Embeddings,
    *,
    comparisons: Sequence[str] = (),
    tuned: bool = False,
    calibrated: Sequence[str] = (),
    picture_bytes: int = PICTURE_BYTES,
) -> None:
    """Write the page; what it lets one look into are the last row's encoder and the first of its classifiers, over all settings.

    Args:
        path: the .html file, replaced in one step.
        table: what was evaluated on.
        sets: the episodes of each setting.
        rows: everything that was measured.
        embeddings: of the table, by the encoder of the last row.
        comparisons: a line each.
        tuned: whether that encoder is tuned.
        calibrated: the classifiers whose confidences are calibrated.
        picture_bytes: see `write_prediction_report`.

    Raises:
        DataError: the place cannot be written.
    """
    last = rows[-1]
    of_encoder = [row for row in rows if row.encoder == last.encoder]
    explored = [row for row in of_encoder if row.classifier == of_encoder[0].classifier]
    row = explored[0]
    prediction = Prediction(table, named_episodes(sets), embeddings, joined([row.results for row in explored]))
    settings = {
        "backbone": row.backbone,
        "checkpoint": row.checkpoint,
        "tuned": tuned,
        "classifier": row.classifier,
        "transductive": row.classifier in TRANSDUCTIVE,
        "calibrated": row.classifier in calibrated,
    }
    said = f"{row.encoder} with {row.classifier}"
    if len(rows) > len(explored):
        said += ", the first classifier of the last encoder that was measured"
    write_page(
        prediction,
        path,
        number_tasks(prediction),
        settings,
        picture_bytes,
        measured=rows,
        comparisons=comparisons,
        explored=said,
    )


def named_episodes(sets: Sequence[EpisodeSet]) -> list[Episode]:
    """The episodes of all settings, in order; where there are several settings each name begins with its own."""
    if len(sets) == 1:
        return list(sets[0].episodes)
    return [
        dataclasses.replace(episode, name=f"{group.ways}-way {group.shots}-shot {episode.name}")
        for group in sets
        for episode in group.episodes
    ]


def joined(parts: Sequence[Results]) -> Results:
    """Several results, one after the other, over one vocabulary."""
    ids: dict[str, int] = {}
    columns, classes = [], []
    before = 0
    for part in parts:
        # the last two entries let -1 (unknown, no answer) and -2 (none of the classes) stay what they are
        mine = np.array([*(ids.setdefault(name, len(ids)) for name in part.vocabulary), -2, -1], dtype=np.int64)
        columns.append((part.episode + before, part.row, mine[part.predicted], mine[part.truth], part.confidence))
        classes.append(None if part.classes is None else mine[part.classes])
        before += len(part.names)
    episode, row, predicted, truth, confidence = (np.concatenate(column) for column in zip(*columns, strict=True))
    names = [name for part in parts for name in part.names]
    return Results(names, tuple(ids), episode, row, predicted, truth, confidence, classes=_below(classes))


def _below(parts: Sequence[Int64Array | None]) -> Int64Array | None:
    """(T, N) class ids of several results, one below the other, padded with -1; None where some have none."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    width = max(part.shape[1] for part in known)
    return np.concatenate([np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=-1) for part in known])
