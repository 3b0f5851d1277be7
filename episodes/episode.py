"""Episode: one few-shot task as row numbers of an ImageTable; EpisodeBatch: many of them as padded arrays.

Rows travel instead of paths, so ten thousand episodes of a hundred pictures cost index arithmetic.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from episodes.errors import DataError
from episodes.notebook import table

UNKNOWN = -1  # a query whose class is not told; also padding
OUTSIDE = -2  # a query whose class is told, but is none of the episode's classes: no answer can be right

Int64Array = np.ndarray[Any, np.dtype[np.int64]]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, eq=False)
class Episode:
    """One N-way task. Shapes: S support pictures, Q query pictures.

    Attributes:
        name: what the task is called in results.
        class_names: (N,) position = label. () is a task without a usable class: nothing can be predicted.
        support: (S,) int64 rows; every class has at least one.
        support_labels: (S,) int64 in [0, N).
        query: (Q,) int64 rows, at least one, none of them in support.
        query_labels: (Q,) int64 in [0, N), UNKNOWN (-1) or OUTSIDE (-2); None where all are hidden.

    Raises:
        DataError: anything of the above does not hold; the message names the episode.
    """

    name: str
    class_names: tuple[str, ...]
    support: Int64Array
    support_labels: Int64Array
    query: Int64Array
    query_labels: Int64Array | None = None

    def __post_init__(self) -> None:
        for name in ("support", "support_labels", "query", "query_labels"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _int64(self.name, name, value))
        object.__setattr__(self, "class_names", tuple(self.class_names))
        self._check_lengths()
        self._check_values()

    def __repr__(self) -> str:
        truth = "labels hidden" if self.query_labels is None else "labels known"
        sizes = f"{len(self.class_names)}-way, {len(self.support)} support and {len(self.query)} query pictures"
        return f"<Episode {self.name}: {sizes}, {truth}>"

    def _repr_html_(self) -> str:
        """How many support and query pictures each class has; `EpisodeSampler` and `plot_episode` show them."""
        ways = len(self.class_names)
        support = np.bincount(self.support_labels, minlength=ways)
        labels = self.query_labels
        query = ["?"] * ways if labels is None else np.bincount(labels[labels >= 0], minlength=ways).tolist()
        rows = [(name, int(support[i]), query[i]) for i, name in enumerate(self.class_names[:20])]
        return table(("class", "support", "query"), rows, repr(self)[1:-1])

    def _check_lengths(self) -> None:
        if len(self.support) != len(self.support_labels):
            raise self._error(f"{len(self.support)} support rows but {len(self.support_labels)} support labels")
        if self.query_labels is not None and len(self.query) != len(self.query_labels):
            raise self._error(f"{len(self.query)} query rows but {len(self.query_labels)} query labels")
        if not len(self.query):
            raise self._error("no query pictures; an episode needs at least one")
        if len(set(self.class_names)) < len(self.class_names):
            raise self._error(f"a class name appears twice among {self.class_names}")

    def _check_values(self) -> None:
        ways = len(self.class_names)
        if len(self.support) and (self.support_labels.min() < 0 or self.support_labels.max() >= ways):
            raise self._error(f"support labels lie in 0…{ways - 1}, found {np.unique(self.support_labels)}")
        if self.query_labels is not None and (self.query_labels.min() < OUTSIDE or self.query_labels.max() >= ways):
            raise self._error(f"query labels lie in {OUTSIDE}…{ways - 1}, found {np.unique(self.query_labels)}")
        empty = np.flatnonzero(np.bincount(self.support_labels, minlength=ways)[:ways] == 0)
        if len(empty):
            names = ", ".join(self.class_names[label] for label in empty[:5])
            raise self._error(f"no support picture for {names}; leave the class out or give it one")
        if (len(self.support) and self.support.min() < 0) or self.query.min() < 0:
            raise self._error("a row number is negative")
        shared = np.intersect1d(self.support, self.query)
        if len(shared):
            raise self._error(f"{len(shared)} rows are in support and in query, such as {shared[:5].tolist()}")

    def _error(self, found: str) -> DataError:
        return DataError(f"episode {self.name}: {found}")


def _int64(episode: str, field: str, value: Any) -> Int64Array:
    array = np.asarray(value)
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise DataError(
            f"episode {episode}: {field} is a one-dimensional array of integers, "
            f"found shape {array.shape} of {array.dtype}"
        )
    return array.astype(np.int64, copy=False)


@dataclass(frozen=True, eq=False)
class EpisodeBatch:
    """T episodes stacked; -1 pads where they differ. Rows and labels of an episode come first, then padding.

    Attributes:
        names: (T,) names of the episodes.
        vocabulary: all class names that ``class_ids`` points into.
        class_ids: (T, N) int64, -1 where an episode has fewer ways.
        n_way: (T,) int64.
        support, support_labels: (T, S) int64, -1 = padding.
        query: (T, Q) int64, -1 = padding.
        query_labels: (T, Q) int64, -1 = padding or unknown, -2 = none of the episode's classes.
    """

    names: Sequence[str]
    vocabulary: tuple[str, ...]
    class_ids: Int64Array
    n_way: Int64Array
    support: Int64Array
    support_labels: Int64Array
    query: Int64Array
    query_labels: Int64Array

    def __len__(self) -> int:
        return len(self.names)

    @property
    def support_mask(self) -> BoolArray:
        """(T, S) False where padding."""
        return np.asarray(self.support >= 0)

    @property
    def query_mask(self) -> BoolArray:
        """(T, Q) False where padding."""
        return np.asarray(self.query >= 0)

    def episode(self, index: int) -> Episode:
        """Episode ``index`` alone, without padding; labels that are all unknown become None."""
        ways, support, query = int(self.n_way[index]), self.support[index] >= 0, self.query[index] >= 0
        labels = self.query_labels[index][query]
        return Episode(
            name=self.names[index],
            class_names=tuple(self.vocabulary[i] for i in self.class_ids[index, :ways]),
            support=self.support[index][support],
            support_labels=self.support_labels[index][support],
            query=self.query[index][query],
            query_labels=None if bool((labels == UNKNOWN).all()) else labels,
        )

    def __iter__(self) -> Iterator[Episode]:
        return (self.episode(index) for index in range(len(self)))


def stack_episodes(episodes: Sequence[Episode]) -> EpisodeBatch:
    """Stack episodes of any shapes; the vocabulary lists their class names in order of first appearance.

    Raises:
        DataError: there are none.
    """
    if not len(episodes):
        raise DataError("stack_episodes needs at least one episode, found none")
    vocabulary: dict[str, int] = {}
    ids = [[vocabulary.setdefault(name, len(vocabulary)) for name in e.class_names] for e in episodes]
    hidden = [np.full(len(e.query), UNKNOWN) if e.query_labels is None else e.query_labels for e in episodes]
    return EpisodeBatch(
        names=[episode.name for episode in episodes],
        vocabulary=tuple(vocabulary),
        class_ids=_pad(ids),
        n_way=np.array([len(episode.class_names) for episode in episodes], dtype=np.int64),
        support=_pad([episode.support for episode in episodes]),
        support_labels=_pad([episode.support_labels for episode in episodes]),
        query=_pad([episode.query for episode in episodes]),
        query_labels=_pad(hidden),
    )


def _pad(rows: Sequence[Any]) -> Int64Array:
    padded = np.full((len(rows), max(len(row) for row in rows)), -1, dtype=np.int64)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return padded
