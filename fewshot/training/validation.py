"""Few-shot accuracy on fixed episodes of held-out classes: what training is steered by.

Some of the classes choose epoch and mix, the others decide whether tuning is kept: classes that chose what does best on them would say
too much for it. Where they are too few for both, all of them decide, and nothing is chosen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from episodes import EpisodeSampler, ImageTable, Results, Score, evaluate
from episodes.counter_random import Int64Array, random_bits
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
from fewshot.training.held_out import keyed_order
from fewshot.training.model import EpisodicModel

MOST_PICTURES = 4000  # of the validation folder: more would cost an epoch's time and move no decision


class Purpose(IntEnum):
    """What episodes are for; the number is part of their seed."""

    CHOOSE = 0
    DECIDE = 1


def divide(classes: int, ways: int) -> int:
    """How many of so many validation classes choose epoch and mix; 0 where they are too few: then none is chosen.

    A third, and enough for an episode; the deciding rest is larger by two at least, since it carries the interval.
    """
    choosing = max(ways, classes // 3)
    return choosing if classes >= 2 * choosing + 2 else 0


@dataclass(frozen=True, eq=False)
class ScoredEmbeddings(Embeddings):
    """Embeddings, and how a training method names queries with the weights that they were made by."""

    score: Score


class Validation:
    """Fixed episodes over the validation pictures; each picture is embedded once a measurement.

    Attributes:
        table: the pictures.
        shots, ways, queries: of the episodes.
        choosing: how many classes choose epoch and mix; 0 where nothing is chosen.
        deciding: how many classes decide.
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
        self.table = _most_pictures(table, per_class, config.seed)
        counts = np.sort(self.table.counts)[::-1]
        self.ways = _ways(config, counts, self.shots)
        self.queries = int(min(config.val_queries, counts[self.ways - 1] - self.shots))
        enough = [int(label) for label in np.flatnonzero(self.table.counts >= self.shots + self.queries)]
        order = [enough[i] for i in keyed_order(len(enough), config.seed, "deciding classes")]
        self.choosing = divide(len(order), self.ways)
        self.deciding = len(order) - self.choosing
        self._classes = {
            Purpose.CHOOSE: order[: self.choosing] or order,
            Purpose.DECIDE: order[self.choosing :],
        }
        self.hidden_states: HiddenStates | None = None
        self._config, self._workers, self._cache, self._model = config, workers, cache, model

    def episodes(self, purpose: Purpose = Purpose.CHOOSE) -> EpisodeSampler:
        """The episodes, of the classes that serve the purpose; without any that choose, all serve both."""
        own = np.isin(self.table.labels, self._classes[purpose])
        return EpisodeSampler(
            dataclasses.replace(self.table, labels=np.where(own, self.table.labels, -1)),
            ways=self.ways,
            shots=self.shots,
            queries=self.queries,
            seed=random_bits(self._config.seed, "validation", int(purpose)) >> 1,
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

    def measure(self, embeddings: Embeddings, purpose: Purpose = Purpose.CHOOSE) -> Results:
        """Accuracy over the fixed episodes: of the prototype classifier, or of the method that the embeddings came with."""
        own = embeddings.score if isinstance(embeddings, ScoredEmbeddings) else None
        return evaluate(self.episodes(purpose), own or FeatureScorer(embeddings, Prototype()))


def _most_pictures(table: ImageTable, per_class: int, seed: int) -> ImageTable:
    """The table with at most so many pictures of each class."""
    kept: list[int] = []
    for label in range(len(table.class_names)):
        rows = table.rows_of(label)
        order: Sequence[int] = range(len(rows))
        if len(rows) > per_class:
            order = keyed_order(len(rows), seed, "validation cap", label)[:per_class]
        kept += sorted(int(rows[i]) for i in order)
    return table.select_rows(kept)


def _ways(config: TrainConfig, counts: Int64Array, shots: int) -> int:
    """Classes of an episode: as many as were asked for; the default follows small data.

    Args:
        config: of the run.
        counts: (C,) pictures of each class.
        shots: of an episode.

    Raises:
        DataError: fewer than 2 classes have enough pictures.
        UsageError: fewer have than were asked for.
    """
    usable = int((counts > shots).sum())
    if usable < 2:
        raise DataError(
            f"validation needs at least 2 classes with more than {shots} pictures, found {usable} (of {len(counts)} "
            "classes). Give --val_data with more pictures, or lower --val_shots"
        )
    if usable < config.val_ways != TrainConfig.val_ways:
        raise UsageError(
            f"val_ways is {config.val_ways}, but only {usable} validation classes have more than {shots} pictures: give at most "
            f"{usable}, or --val_data with more classes"
        )
    return min(config.val_ways, usable)
