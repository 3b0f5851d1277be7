"""From a directory of tasks to named pictures: every distinct picture through the encoder once, then classified."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from episodes import Episode, ImageTable, Results, Score, evaluate, read_task_directory
from episodes.files import display_name
from episodes.predictions import UNKNOWN_LABEL
from fewshot.classifiers.base import Classifier
from fewshot.classifiers.kinds import Calibration
from fewshot.classifiers.scoring import FeatureScorer
from fewshot.classifiers.surface import Floats
from fewshot.device import Precision
from fewshot.embedding.cache import EmbeddingCache
from fewshot.embedding.embed import Embeddings, Progress, embed_images
from fewshot.encoders.base import Embedder

if TYPE_CHECKING:
    import pandas as pd

    from fewshot.adaptation import TaskAdapter

Columns = dict[str, Any]  # name -> an array with a value for every query picture


@dataclass(frozen=True, eq=False)
class Prediction:
    """The answers to every query picture, and what could not be read.

    Attributes:
        table: every picture of the tasks.
        episodes: the tasks.
        embeddings: of `table`'s rows.
        results: answers in the order of the CSV.
    """

    table: ImageTable
    episodes: Sequence[Episode]
    embeddings: Embeddings
    results: Results

    @property
    def frame(self) -> pd.DataFrame:
        """task, image, label, confidence, truth, runner_up, margin: a row for every query picture."""
        return self.results.to_frame(self.table)

    @property
    def columns(self) -> Columns:
        """Those of `frame`, by name, without pandas."""
        return self.results.to_columns(self.table)

    @property
    def unreadable(self) -> dict[str, str]:
        """Unreadable pictures: printable path -> why."""
        paths = [display_name(path) for path in self.table.paths(self.embeddings.problems)]
        return dict(zip(paths, self.embeddings.problems.values(), strict=True))

    @property
    def faults(self) -> tuple[str, ...]:
        """One sentence for each task that is broken as a task."""
        return self.table.passed_over.faults

    @property
    def lost_classes(self) -> list[tuple[str, str]]:
        """(task, class) of every class whose support pictures are all unreadable: it cannot be predicted."""
        if not self.embeddings.problems:
            return []
        readable = self.embeddings.readable.numpy()
        lost = []
        for episode in self.episodes:
            left = np.bincount(episode.support_labels[readable[episode.support]], minlength=len(episode.class_names))
            lost += [(episode.name, episode.class_names[label]) for label in np.flatnonzero(left == 0)]
        return lost


def predict(
    tasks: str | Path | tuple[ImageTable, Sequence[Episode]],
    encoder: Embedder,
    classifier: Classifier,
    *,
    class_text: Callable[[Sequence[str]], dict[str, Tensor] | None] | None = None,
    calibration: Calibration | None = None,
    adapter: TaskAdapter | None = None,
    seed: int = 0,
    truth: str | Path | None = None,
    find_truth: bool = True,
    precision: Precision = "auto",
    workers: int | None = None,
    cache: EmbeddingCache | None = None,
    progress: Progress | None = None,
    embed: Callable[..., Embeddings | None] = embed_images,
) -> Prediction:
    """Name the query pictures of tasks.

    Args:
        tasks: the folder that holds `testB/`, a folder of tasks, or one task; or what `episodes.read_task_directory` or
            `episodes.read_support_and_query` made of one.
        encoder: on the device that is to compute.
        classifier: the few-shot method.
        class_text: gives text embeddings (D,) of the tasks' class names, for classifiers that use names.
        calibration: of the classifier over this encoder, for confidences that mean accuracy; None leaves them as they are.
        adapter: tunes a copy of the encoder on each task's support pictures; None leaves it as it is.
        seed: of the adapter's augmentation.
        truth: of a folder, see `episodes.read_task_directory`.
        find_truth: of a folder, see `episodes.read_task_directory`.
        precision: see `fewshot.embed_images`.
        workers: see `fewshot.embed_images`.
        cache: see `fewshot.embed_images`.
        progress: see `fewshot.embed_images`.
        embed: what is called in its place.

    Raises:
        DataError: no tasks, or no picture to name in any of them.
    """
    table, episodes = tasks if isinstance(tasks, tuple) else read_task_directory(tasks, truth, find_truth=find_truth)
    embeddings = embed(encoder, table.items, precision=precision, workers=workers, cache=cache, progress=progress)
    assert embeddings is not None  # this is the process that gets them
    texts = class_text(table.class_names) if class_text is not None else None

    def scorer(features: Embeddings) -> FeatureScorer:
        return FeatureScorer(features, classifier, class_text=texts, calibration=calibration, device=encoder.device)

    score: Score = scorer(embeddings)
    if adapter is not None:
        from fewshot.adaptation import AdaptedScorer
        from fewshot.embedding.deferred import opened

        score = AdaptedScorer(opened(encoder), adapter, table, embeddings, scorer, seed=seed, precision=precision)
    results = evaluate(episodes, score, runners_up=True)
    return Prediction(table, episodes, embeddings, results)


def reject(columns: Columns, needed: Floats) -> Columns:
    """A copy in which answers with a confidence below what is `needed` (M,) are "unknown"; rows without an answer stay so."""
    unsure = (columns["label"] != "") & ~(columns["confidence"].astype(float) >= needed)
    return {**columns, "label": np.where(unsure, UNKNOWN_LABEL, columns["label"])}


def least_sure_first(columns: Columns) -> Columns:
    """The rows without an answer, then the others by rising margin; in their order where equal."""
    order = np.argsort(np.nan_to_num(columns["margin"], nan=-1.0), kind="stable")
    return {name: values[order] for name, values in columns.items()}
