"""From pictures, an adapter and a few-shot classifier to the `score` that `episodes.evaluate` calls, task by task.

T tasks, S support and Q query pictures a task, V views, N ways, D embedding width.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from episodes import Episode, EpisodeBatch, ImageTable, stack_episodes
from episodes.counter_random import random_bits
from episodes.decoding import UnreadableImage, read_bytes
from episodes.errors import DataError
from episodes.evaluate import Score
from fewshot.adaptation.base import Classify, SupportViews, TaskAdapter, Tuned
from fewshot.adaptation.trunk import StoredStates, Trunk
from fewshot.classifiers import maths
from fewshot.device import Precision, resolve_precision
from fewshot.embedding.embed import Embeddings
from fewshot.encoders.base import VisionEncoder
from fewshot.images.augmentation import Augmentation
from fewshot.images.augmented_views import PictureSource

Floats = npt.NDArray[np.float32]
MOST_BYTES = 2 << 30  # of hidden states that are kept
AUGMENTATION = Augmentation(flip=0.0)  # a mirrored character may be another one, and a task does not say what it shows


class AdaptedScorer:
    """Adapts the encoder to each task in turn and classifies with what comes out; -inf and NaN as in `FeatureScorer`.

    Where adaptation leaves the encoder as it is, the answers are those of `FeatureScorer`, to the bit. It works on a private
    copy of the encoder. What a task gets is a function of (seed, the task's name, its pictures) alone.

    Attributes:
        rates: of every task scored, in order: its name and the learning rate chosen, 0 where nothing was tuned.
    """

    def __init__(
        self,
        encoder: VisionEncoder,
        adapter: TaskAdapter,
        table: ImageTable,
        embeddings: Embeddings,
        scorer: Callable[[Embeddings], Score],
        *,
        augmentation: Augmentation = AUGMENTATION,
        seed: int = 0,
        precision: Precision = "auto",
        read: Callable[[Any], bytes] = read_bytes,
        on_task: Callable[[str, float], None] | None = None,
        hidden_states: StoredStates | None = None,
    ) -> None:
        """Copy the encoder, in two parts: what every task shares, and what each one tunes when it is scored.

        Args:
            encoder: on the device that computes.
            adapter: what is tuned, and how.
            table: the episodes' table.
            embeddings: of every row of `table` by the same encoder; unreadable pictures are left out.
            scorer: makes the score over given embeddings: `FeatureScorer` with its other arguments bound, by
                `functools.partial(FeatureScorer, classifier=...)`.
            augmentation: of the support pictures.
            seed: of the augmentation.
            precision: see `fewshot.device.resolve_precision`.
            read: gives the bytes of an item of the table.
            on_task: told (name, learning rate) after every task.
            hidden_states: of `table`'s rows, behind at most the blocks that stay as they are; None computes them of the pictures, and
                keeps those of pictures that may come again as far as memory is to be had.

        Raises:
            UsageError: the encoder has no such part as the adapter tunes.
            DataError: the embeddings are not those of `table` by `encoder`.
        """
        if embeddings.features.shape != (len(table), encoder.embed_dim):
            raise DataError(
                f"adaptation takes embeddings of all {len(table)} pictures by {encoder.name}, {encoder.embed_dim} wide; found "
                f"{tuple(embeddings.features.shape)}"
            )
        self.rates: list[tuple[str, float]] = []
        self._adapter, self._scorer, self._unadapted = adapter, scorer, scorer(embeddings)
        self._items, self._readable = table.items, embeddings.readable.numpy()
        self._augmentation, self._seed, self._read, self._on_task = augmentation, seed, read, on_task
        self._device, self._width = encoder.device, encoder.embed_dim
        self._precision = resolve_precision(precision, self._device)
        self._tail = adapter.tail(copy.deepcopy(encoder).requires_grad_(False), self._precision)
        behind = hidden_states.n_frozen if hidden_states is not None else None
        pictures = behind is None or adapter.views > 0
        self._hidden = Trunk(encoder, self._tail.n_frozen, self._precision, pictures=pictures, stored_behind=behind)
        self._hidden_states = hidden_states
        self._kept: dict[int, Tensor] = {}

    def __call__(self, batch: EpisodeBatch) -> Floats:
        """T episodes -> (T, Q, N) float32 log-probabilities, N the largest way; see `FeatureScorer`."""
        scores = np.array(self._unadapted(batch))
        with torch.inference_mode(False):  # gradients are needed, whatever the caller is in
            for index, episode in enumerate(batch):
                rate = 0.0
                answer = self._adapt(episode)
                if answer is not None:
                    values, rate = answer
                    scores[index, : values.shape[0], : values.shape[1]] = values
                self.rates.append((episode.name, rate))
                if self._on_task is not None:
                    self._on_task(*self.rates[-1])
        return scores

    def _adapt(self, episode: Episode) -> tuple[Floats, float] | None:
        """(Q, N) log-probabilities by the tuned encoder and its learning rate; None where it stays as it is."""
        usable = np.flatnonzero(self._readable[episode.support])
        classes, labels = np.unique(episode.support_labels[usable], return_inverse=True)
        if len(classes) < 2 or not self._readable[episode.query].any():
            return None  # with one class there is nothing to tell apart
        support = self._support(episode, episode.support[usable], labels.reshape(-1), len(classes))
        names = tuple(episode.class_names[label] for label in classes)
        tuned = self._adapter(self._tail, support, self._classify(episode, names))
        if tuned is None:
            return None
        if tuned.head is not None:
            values = self._by_head(episode, tuned, classes)
            return None if values is None else (values, tuned.rate)
        rows = np.concatenate([episode.support, episode.query])
        features = torch.zeros(len(rows), self._width)
        features[usable] = self._tail.embed(tuned.tensors, support.plain).cpu()
        asked = len(episode.support) + np.flatnonzero(self._readable[episode.query])
        hidden = self._plain(rows[asked])
        features[asked] = self._tail.embed(tuned.tensors, hidden).cpu()
        if not bool(features.isfinite().all()):
            return None
        readable = torch.from_numpy(self._readable[rows])
        numbers = np.arange(len(rows))
        alone = dataclasses.replace(
            episode, support=numbers[: len(episode.support)], query=numbers[len(episode.support) :]
        )
        return self._score(alone, features, readable), tuned.rate

    def _by_head(self, episode: Episode, tuned: Tuned, classes: npt.NDArray[np.int64]) -> Floats | None:
        """(Q, N) log-probabilities by a head of its own over some of the classes; None where it gives no finite ones."""
        assert tuned.head is not None
        asked = np.flatnonzero(self._readable[episode.query])
        features = self._tail.embed(tuned.tensors, self._plain(episode.query[asked]))
        logits = maths.products(features.unsqueeze(0), tuned.head.unsqueeze(0))
        if not bool(logits.isfinite().all()):
            return None
        values = np.full((len(episode.query), len(episode.class_names)), np.nan, dtype=np.float32)
        answered = np.full((len(asked), values.shape[1]), -np.inf, dtype=np.float32)
        answered[:, classes] = maths.log_probabilities(logits)[0].cpu().numpy()
        values[asked] = answered
        return values

    def _score(self, episode: Episode, features: Tensor, readable: Tensor) -> Floats:
        """(Q, N) log-probabilities of a task whose rows are those of `features`."""
        found = Embeddings(features, readable, problems={}, computed=len(features))
        scores: Floats = self._scorer(found)(stack_episodes([episode]))[0]
        return scores

    def _support(
        self, episode: Episode, rows: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], n_way: int
    ) -> SupportViews:
        """The readable support pictures and their views, through the trunk."""
        plain, views = self._plain(rows), self._adapter.views
        shaped = plain.new_empty(0, *plain.shape)
        if views:
            pictures = self._pictures(rows, self._augmentation, views, random_bits(self._seed, episode.name))
            shaped = self._hidden(pictures.transpose(0, 1).flatten(0, 1)).reshape(views, *plain.shape)
        return SupportViews(plain, shaped, torch.from_numpy(labels).to(self._device), n_way)

    def _pictures(
        self, rows: npt.NDArray[np.int64], augmentation: Augmentation | None, views: int, seed: int = 0
    ) -> Tensor:
        """(n, V, 3, H, W) uint8."""
        items = [self._items[row] for row in rows.tolist()]
        source = PictureSource(items, self._hidden.image_size, augmentation, views=views, seed=seed, read=self._read)
        pictures = []
        for place, item in enumerate(items):
            try:
                pictures.append(source.views(place))
            except UnreadableImage as error:
                raise DataError(
                    f"{item}: could be read before, but not any more ({error}); put it back and run again"
                ) from error
        return torch.stack(pictures)

    def _plain(self, rows: npt.NDArray[np.int64]) -> Tensor:
        """(n, ...) hidden states of readable pictures; of those that come again from memory."""
        new = [row for row in dict.fromkeys(rows.tolist()) if row not in self._kept]
        found = dict(self._kept)
        if new:
            computed = self._hidden(
                self._stored(new) if self._hidden_states else self._pictures(np.array(new), None, 1)[:, 0]
            )
            found |= dict(zip(new, computed, strict=True))
            if len(found) * computed[0].numel() * computed.element_size() <= MOST_BYTES:
                self._kept = found
        return torch.stack([found[row] for row in rows.tolist()])

    def _stored(self, rows: list[int]) -> Tensor:
        """(n, ...) hidden states from the file."""
        assert self._hidden_states is not None
        return torch.stack([self._hidden_states(row, 0) for row in rows])

    def _classify(self, episode: Episode, names: tuple[str, ...]) -> Classify:
        """The few-shot classifier of one task, for held-out support pictures."""

        def classify(support: Tensor, labels: Tensor, pictures: Tensor) -> Tensor:
            features = torch.cat([support, pictures]).cpu()
            numbers = np.arange(len(features))
            held_out = Episode(
                episode.name, names, numbers[: len(support)], labels.cpu().numpy(), numbers[len(support) :]
            )
            return torch.from_numpy(self._score(held_out, features, torch.ones(len(features), dtype=torch.bool)))

        return classify
