"""evaluate: episodes times a score function gives Results, in chunks so that memory stays bounded."""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from episodes.episode import Episode, EpisodeBatch, stack_episodes
from episodes.errors import DataError, UsageError
from episodes.results import Results

Int64Array = np.ndarray[Any, np.dtype[np.int64]]

Score = Callable[[EpisodeBatch], np.ndarray[Any, np.dtype[Any]]]
"""Gives (T, Q, N) log-probabilities for a batch; a query that is all NaN has no answer (unreadable)."""


def evaluate(episodes: Sequence[Episode], score: Score, *, chunk: int = 256, runners_up: bool = False) -> Results:
    """Ask ``score`` for every query of every episode.

    Args:
        episodes: a sampler (its ``batch`` is used), or any sequence of episodes.
        score: see :data:`Score`; scores of padding, and of classes that an episode lacks, are ignored.
        chunk: episodes at a time; it changes the memory taken, not the results.
        runners_up: note the second-best class of each query too, and by how much it lost.

    Returns:
        Results. The answer is the class of the largest score, the first of equal ones; its confidence is the
        exponential of the score.

    Raises:
        DataError: no episodes, or scores of the wrong shape, partly NaN, or above 0.
        UsageError: ``chunk`` below 1.
    """
    if chunk < 1:
        raise UsageError(f"chunk is at least 1, found {chunk}")
    if not len(episodes):
        raise DataError("evaluate needs at least one episode, found none")
    vocabulary = _Vocabulary()
    names: list[str] = []
    classes: list[Int64Array] = []
    parts: list[tuple[Any, ...]] = []
    for start in range(0, len(episodes), chunk):
        stop = min(start + chunk, len(episodes))
        batch = _batch(episodes, start, stop)
        classes.append(vocabulary.ids(batch))
        parts.append(_answers(batch, score(batch), classes[-1], start, runners_up))
        names.extend(batch.names)
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return dataclasses.replace(Results(names, vocabulary.names, *columns), classes=_stacked(classes))


def _stacked(parts: list[Int64Array]) -> Int64Array:
    """Tables (t, n) of ids, one below the other: (T, N), the narrower ones padded with -1."""
    widest = max(part.shape[1] for part in parts)
    return np.concatenate([np.pad(part, ((0, 0), (0, widest - part.shape[1])), constant_values=-1) for part in parts])


def _batch(episodes: Sequence[Episode], start: int, stop: int) -> EpisodeBatch:
    stacked = getattr(episodes, "batch", None)
    if stacked is not None:
        batch: EpisodeBatch = stacked(start, stop)
        return batch
    return stack_episodes([episodes[i] for i in range(start, stop)])


class _Vocabulary:
    """One vocabulary over chunks that each bring their own."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._last: tuple[str, ...] | None = None
        self._map: Int64Array = np.empty(0, dtype=np.int64)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._ids)

    def ids(self, batch: EpisodeBatch) -> Int64Array:
        """(T, N) the batch's class ids in the common vocabulary, -1 = padding."""
        if batch.vocabulary is not self._last:
            self._map = np.array([self._ids.setdefault(n, len(self._ids)) for n in batch.vocabulary] + [-1])
            self._last = batch.vocabulary
        return self._map[batch.class_ids]


def _answers(batch: EpisodeBatch, scores: Any, class_ids: Int64Array, first: int, runners_up: bool) -> tuple[Any, ...]:
    """Flat (M,) episode, row, predicted, truth, confidence of one batch; then runner-up and margin, if they are wanted."""
    values, (task, row, label) = _queries(batch, _checked(batch, scores))
    truth = _look_up(class_ids, task, label)
    if values.shape[1] == 0:  # tasks without a usable class have nothing to choose from
        nothing = (np.full(len(row), -1), np.full(len(row), np.nan, np.float32))
        return first + task, row, nothing[0], truth, nothing[1], *(nothing if runners_up else ())
    answered: Any = True
    ragged = bool((batch.n_way < class_ids.shape[1]).any())
    if ragged or bool(np.isnan(values).any()):  # else every value counts, and nothing is copied
        real = np.arange(class_ids.shape[1]) < batch.n_way[task, None]
        missing = np.isnan(values) & real
        answered = ~missing.all(axis=1, where=real) & (batch.n_way[task] > 0)
        if bool((missing.any(axis=1) & answered).any()):
            raise DataError("score gave NaN for some classes of a query; give all NaN for a query without an answer")
        values = np.where(real & answered[:, None], values, -np.inf)
    best = values.argmax(axis=1)  # the first of equal scores
    top = values[np.arange(len(best)), best]
    if top.max(initial=-np.inf) > 1e-3:
        raise DataError(
            f"score gives log-probabilities, which are not above 0; found {top.max():.4g}. Apply log_softmax"
        )
    predicted, confidence = class_ids[task, best], np.exp(np.minimum(top, 0)).astype(np.float32)
    if answered is not True:
        predicted, confidence = np.where(answered, predicted, -1), np.where(answered, confidence, np.float32(np.nan))
    second = _runner_up(values, best, class_ids, task, confidence) if runners_up else ()
    return first + task, row, predicted, truth, confidence, *second


def _runner_up(
    values: Any, best: Int64Array, class_ids: Int64Array, task: Int64Array, confidence: Any
) -> tuple[Int64Array, Any]:
    """(M,) the class of the second-largest score (-1: none), and the confidence less that class's; NaN without an answer."""
    others = values.copy()
    others[np.arange(len(best)), best] = -np.inf
    second = others.argmax(axis=1)
    top = others[np.arange(len(best)), second]
    there = (top > -np.inf) & ~np.isnan(confidence)
    margin = confidence - np.where(there, np.exp(np.minimum(top, 0)), 0).astype(np.float32)
    return np.where(there, class_ids[task, second], -1), margin


def _queries(batch: EpisodeBatch, scores: Any) -> tuple[Any, tuple[Int64Array, Int64Array, Int64Array]]:
    """(M, N) scores of the queries that are none of padding, and their (M,) task, row and label."""
    mask = batch.query_mask
    if bool(mask.all()):
        task = np.repeat(np.arange(len(batch)), mask.shape[1])
        return scores.reshape(mask.size, scores.shape[-1]), (
            task,
            batch.query.reshape(-1),
            batch.query_labels.reshape(-1),
        )
    return scores[mask], (np.nonzero(mask)[0], batch.query[mask], batch.query_labels[mask])


def _look_up(class_ids: Int64Array, task: Int64Array, label: Int64Array) -> Int64Array:
    """Vocabulary ids of labels; what is below 0 stays."""
    if class_ids.shape[1] == 0:
        return label
    if label.min(initial=0) >= 0:
        return class_ids[task, label]
    return np.where(label >= 0, class_ids[task, np.maximum(label, 0)], label)


def _checked(batch: EpisodeBatch, scores: Any) -> np.ndarray[Any, np.dtype[np.floating[Any]]]:
    array = np.asarray(scores)
    expected = (*batch.query.shape, batch.class_ids.shape[1])
    if array.shape != expected:
        raise DataError(
            f"score gives log-probabilities of shape (episodes, queries, ways), {expected} for this batch; "
            f"found {array.shape}"
        )
    if not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"score gives floating-point log-probabilities, found {array.dtype}")
    return array


class _CallableModule(ModuleType):
    """`episodes.evaluate` is a function and the module that holds it: whichever a program gets, it can call it.

    Python sets a package's attribute to a sub-module when that is first imported, over a function of the same name.
    """

    def __call__(
        self, episodes: Sequence[Episode], score: Score, *, chunk: int = 256, runners_up: bool = False
    ) -> Results:
        return evaluate(episodes, score, chunk=chunk, runners_up=runners_up)


sys.modules[__name__].__class__ = _CallableModule
