"""Few-shot accuracy on fixed episodes of held-out classes: what training is steered by."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from episodes import EpisodeSampler, ImageTable, Results, Score, evaluate
from episodes.counter_random import random_bits
from episodes.errors import DataError, UsageError
from episodes.ranges import upper
from fewshot.adaptation.meta import score_of
from fewshot.classifiers.prototype import Prototype
from fewshot.classifiers.scoring import FeatureScorer
from fewshot.config import TrainConfig
from fewshot.device import Precision
from fewshot.embedding.cache import EmbeddingCache
from fewshot.embedding.embed import Embeddings, embed_images
from fewshot.embedding.hidden_states import HiddenStates
from fewshot.encoders.base import VisionEncoder
from fewshot.training.model import EpisodicModel

MOST_PICTURES = 4000  # of the validation folder: more would cost an epoch's time and move no decision


def _keyed_order(n: int, *keys: int | str) -> list[int]:
    return sorted(range(n), key=lambda i: random_bits(*keys, i))


@dataclass(frozen=True, eq=False)
class Split:
    """Training and validation tables, and a sentence for the user on how they came about."""

    train: ImageTable
    validation: ImageTable
    note: str


def split_validation(table: ImageTable, seed: int, at_least: int, shots: int = 1) -> Split:
    """Hold out a seeded tenth of the classes, at least `at_least`; of few classes, a fifth of each class's pictures instead.

    Args:
        table: the training folder.
        seed: of the choice.
        at_least: ways of the training or validation episodes, whichever is more.
        shots: support pictures a class in validation.

    Raises:
        DataError: there is nothing to hold out.
    """
    classes = len(table.class_names)
    held = max(math.ceil(classes / 10), at_least)
    if classes >= 2 * held:
        order = _keyed_order(classes, seed, "validation classes")
        chosen, rest = sorted(order[:held]), sorted(order[held:])
        note = f"{held} of {classes} classes held out for validation (give --val_data to choose them yourself)"
        return Split(table.select_classes(rest), table.select_classes(chosen), note)
    rows_train: list[int] = []
    rows_held: list[int] = []
    for label in range(classes):
        rows = table.rows_of(label)
        order = _keyed_order(len(rows), seed, "validation pictures", label)
        n_held = max(
            len(rows) // 5, min(shots + 1, len(rows) // 2)
        )  # a query beside the support, and half to learn from
        rows_held += [int(rows[i]) for i in sorted(order[:n_held])]
        rows_train += [int(rows[i]) for i in sorted(order[n_held:])]
    if not rows_held:
        raise DataError(
            f"{classes} classes are too few to hold some out for validation, and their pictures too: give --val_data"
        )
    note = (
        f"{classes} classes are too few to hold {held} of them out: a fifth of each class's pictures is held out instead, so validation "
        "measures known classes (give --val_data for unseen ones)"
    )
    return Split(table.select_rows(rows_train), table.select_rows(rows_held), note)


@dataclass(frozen=True, eq=False)
class ScoredEmbeddings(Embeddings):
    """Embeddings, and how a training method names queries with the weights that they were made by."""

    score: Score


class Validation:
    """Fixed episodes over the validation pictures; each picture is embedded once a measurement.

    Attributes:
        table: the pictures.
        shots, ways, queries: of the episodes.
        trunk: what the frozen blocks make of the pictures, so that a measurement costs the tail alone; None without one.
    """

    def __init__(
        self,
        table: ImageTable,
        config: TrainConfig,
        workers: int,
        cache: EmbeddingCache | None,
        model: EpisodicModel | None = None,
    ) -> None:
        """Choose the pictures and the kind of episodes, the same for the whole run.

        Args:
            table: validation classes.
            config: of the run.
            workers: decoding threads.
            cache: used for the untouched encoder only.
            model: whose method names queries, once it is trained; None where prototypes do.

        Raises:
            DataError: no classes with enough pictures for an episode.
            UsageError: more ways were asked for than there are such classes.
        """
        self.shots = config.val_shots or upper(config.shot_range)
        per_class = max(self.shots + config.val_queries, MOST_PICTURES // max(1, len(table.class_names)))
        kept: list[int] = []
        for label in range(len(table.class_names)):
            rows = table.rows_of(label)
            order = (
                _keyed_order(len(rows), config.seed, "validation cap", label)[:per_class]
                if len(rows) > per_class
                else range(len(rows))
            )
            kept += sorted(int(rows[i]) for i in order)
        self.table = table.select_rows(kept)
        counts = np.sort(self.table.counts)[::-1]
        usable = int((counts > self.shots).sum())
        if usable < 2:
            raise DataError(
                f"validation needs at least 2 classes with more than {self.shots} pictures, found {usable} (of {len(counts)} "
                "classes). Give --val_data with more pictures, or lower --val_shots"
            )
        if (
            usable < config.val_ways != TrainConfig.val_ways
        ):  # the default follows small data, a number that was asked for is kept
            raise UsageError(
                f"val_ways is {config.val_ways}, but only {usable} validation classes have more than {self.shots} pictures: give at most "
                f"{usable}, or --val_data with more classes"
            )
        self.ways = min(config.val_ways, usable)
        self.queries = int(min(config.val_queries, counts[self.ways - 1] - self.shots))
        self.hidden_states: HiddenStates | None = None
        self._config, self._workers, self._cache, self._model = config, workers, cache, model

    def episodes(self, purpose: int = 0) -> EpisodeSampler:
        """The episodes; another `purpose` gives others of the same kind."""
        return EpisodeSampler(
            self.table,
            ways=self.ways,
            shots=self.shots,
            queries=self.queries,
            seed=random_bits(self._config.seed, "validation", purpose) >> 1,
            episodes=self._config.val_episodes,
        )

    def embed(self, encoder: VisionEncoder, *, untouched: bool = False) -> Embeddings:
        """Embeddings of all validation pictures.

        Args:
            encoder: with the weights that are to be measured.
            untouched: these are the weights from before, which prototypes measure; others are measured by the run's own method.
        """
        precision: Precision = self._config.precision
        if self.hidden_states is not None:
            embeddings = self.hidden_states.embed(encoder, precision)
        else:
            cache = self._cache if untouched else None
            embeddings = embed_images(
                encoder, self.table.items, precision=precision, workers=self._workers, cache=cache
            )
        method = None if self._model is None or untouched else self._model.method
        if method is None or self._model is None or not bool(embeddings.readable.any()):
            return embeddings
        score = score_of(
            method,
            float(self._model.scale.detach()),
            encoder,
            self.table,
            embeddings,
            precision=precision,
            hidden_states=self.hidden_states,
        )
        return ScoredEmbeddings(**vars(embeddings), score=score)

    def measure(self, embeddings: Embeddings, purpose: int = 0) -> Results:
        """Accuracy over the fixed episodes: of the prototype classifier, or of the method that the embeddings came with."""
        own = embeddings.score if isinstance(embeddings, ScoredEmbeddings) else None
        return evaluate(self.episodes(purpose), own or FeatureScorer(embeddings, Prototype()))
