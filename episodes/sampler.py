"""EpisodeSampler: N-way K-shot episodes, each a pure function of (table, settings, seed, index).

Ranges of ways and shots follow Triantafillou et al. 2020, "Meta-Dataset", arXiv 1903.03096, in drawing both
anew for each episode, here uniformly from an inclusive range.
"""

import operator
from collections.abc import Sequence
from typing import Any, overload

import numpy as np

from episodes.balance import ShrunkQueries, check_balance, unbalanced_counts
from episodes.counter_random import START, Int64Array, UInt64Array, bounded, fold, partial_permutation
from episodes.episode import UNKNOWN, Episode, EpisodeBatch
from episodes.errors import DataError, UsageError
from episodes.notebook import table as html_table
from episodes.notebook import thumbnails
from episodes.ranges import range_text
from episodes.table import ImageTable
from episodes.wording import counted

_NAMED = 8
_SHOWN = 10  # classes in a notebook
_AHEAD, _AHEAD_PICTURES = (
    64,
    50_000,
)  # episodes drawn at a time where one is asked for after the other, and pictures at most
# Purposes keep draws apart: a change of the shot moves no class and no query.
_WAY, _SHOT, _CLASSES, _PICTURES, _BALANCE = range(5)


class EpisodeSampler(Sequence[Episode]):
    """Episodes from a table of class folders.

    In each class one keyed permutation gives the queries first and then the supports. So with one
    ``max_shots`` the queries of 1-shot and 5-shot episodes are the same, and the supports nest; with more
    ways the first classes stay.

    Args:
        table: pictures and classes.
        ways: a number, or an inclusive range to draw from for each episode.
        shots: support pictures a class, likewise.
        queries: query pictures of each class.
        seed: the seed; every 64 bits of it count.
        episodes: how many; what an episode costs depends neither on it nor on the size of the table.
        max_shots: a class takes part if it has ``max_shots + queries`` pictures. Default: the largest of
            ``shots``. Samplers that are to share classes and queries share it.
        shots_per_class: draw the shots for each class instead of for each episode.
        query_balance: concentration of a Dirichlet distribution that divides ways * queries over the classes
            (see :mod:`episodes.balance`); None gives every class the same number.

    Raises:
        UsageError: a setting out of range.
        DataError: fewer classes are large enough than an episode has ways; names the small ones.
    """

    def __init__(
        self,
        table: ImageTable,
        *,
        ways: int | tuple[int, int] = 5,
        shots: int | tuple[int, int] = 1,
        queries: int = 15,
        seed: int = 0,
        episodes: int = 600,
        max_shots: int | None = None,
        shots_per_class: bool = False,
        query_balance: float | None = None,
    ) -> None:
        self.table = table
        self.ways = _range("ways", ways)
        self.shots = _range("shots", shots)
        self.queries = _at_least_one("queries", queries)
        self.seed = operator.index(seed)
        self.episodes = _at_least_one("episodes", episodes)
        self.max_shots = self.shots[1] if max_shots is None else _at_least_one("max_shots", max_shots)
        self.shots_per_class = shots_per_class
        self.query_balance = query_balance
        if self.max_shots < self.shots[1]:
            raise UsageError(f"max_shots is at least the largest of shots, {self.shots[1]}; found {self.max_shots}")
        if query_balance is not None:
            check_balance(query_balance, self.ways[1], queries)
        self.eligible: Int64Array = np.flatnonzero(table.counts >= self.max_shots + self.queries).astype(np.int64)
        if len(self.eligible) < self.ways[1]:
            raise DataError(self._explain_too_few())
        self._starts, self._order = table.grouping
        self._drawn: tuple[object, int, EpisodeBatch] | None = None  # settings, first number and episodes drawn last

    def __len__(self) -> int:
        return self.episodes

    def __repr__(self) -> str:
        sizes = f"{_ends(self.ways)}-way {_ends(self.shots)}-shot, {self.queries} queries a class"
        return f"<EpisodeSampler of {counted(self.episodes, 'episode')}: {sizes}, seed {self.seed}, of {self.table.summary()}>"

    def _repr_html_(self) -> str:
        """The first episode with its pictures."""
        first = self[0]
        labels = first.query_labels
        assert labels is not None
        rows = [
            (
                name,
                thumbnails(self.table, first.support[first.support_labels == i].tolist()),
                thumbnails(self.table, first.query[labels == i].tolist()),
            )
            for i, name in enumerate(first.class_names[:_SHOWN])
        ]
        return html_table(("class", "support", "query"), rows, f"{repr(self)[1:-1]}; the first of them:")

    @overload
    def __getitem__(self, index: int) -> Episode: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Episode]: ...
    def __getitem__(self, index: int | slice) -> Episode | Sequence[Episode]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = operator.index(index)
        if position < 0:
            position += len(self)
        if not 0 <= position < len(self):
            raise IndexError(f"episode {index} of {len(self)}")
        settings = (
            self.seed,
            self.ways,
            self.shots,
            self.queries,
            self.max_shots,
            self.shots_per_class,
            self.query_balance,
        )
        drawn = self._drawn if self._drawn is not None and self._drawn[0] == settings else None
        if drawn is None or not drawn[1] <= position < drawn[1] + len(drawn[2]):
            # Who asks for one episode after the other gets them from batches, where one costs a fraction.
            follows = drawn is not None and position == drawn[1] + len(drawn[2])
            pictures = self.ways[1] * (self.max_shots + self.queries)
            stop = (
                min(position + max(1, min(_AHEAD, _AHEAD_PICTURES // pictures)), len(self)) if follows else position + 1
            )
            drawn = self._drawn = settings, position, self.batch(position, stop)
        return drawn[2].episode(position - drawn[1])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_drawn": None}  # what was drawn last is not worth sending to another process

    def batch(self, start: int, stop: int) -> EpisodeBatch:
        """Episodes ``start`` to ``stop`` (exclusive) stacked: the same as those of ``sampler[i]``.

        Raises:
            IndexError: the range is empty or leaves the sampler.
        """
        if not 0 <= start < stop <= len(self):
            raise IndexError(f"batch({start}, {stop}) of {len(self)} episodes")
        ways, classes = self._draw_classes(np.arange(start, stop))
        shots = self._draw_shots(start, stop, ways, classes)
        counts = self._draw_query_counts(start, stop, ways, classes)
        places = self._draw_pictures(start, stop, classes, int(shots.max()), int(counts.max()))
        support, support_labels = self._pick(places[:, :, self.queries : self.queries + self.max_shots], classes, shots)
        queries = places[:, :, : self.queries]
        if counts.max() > self.queries:
            queries = np.concatenate([queries, places[:, :, self.queries + self.max_shots :]], axis=2)
        query, query_labels = self._pick(queries, classes, counts)
        return EpisodeBatch(
            names=[f"episode{i}" for i in range(start, stop)],
            vocabulary=self.table.class_names,
            class_ids=classes,
            n_way=ways,
            support=support,
            support_labels=support_labels,
            query=query,
            query_labels=query_labels,
        )

    def shrunk_queries(self, start: int = 0, stop: int | None = None) -> ShrunkQueries:
        """How far unbalanced query sets fell short of ways * queries, over a range of episodes."""
        end = len(self) if stop is None else stop
        ways, classes = self._draw_classes(np.arange(start, end))
        given = self._draw_query_counts(start, end, ways, classes).sum(axis=1)
        asked = ways * self.queries
        return ShrunkQueries(end - start, int((given < asked).sum()), int(asked.sum()), int(given.sum()))

    def spare(self, index: int, label: int, number: int) -> int:
        """A row to stand in for an unreadable picture of episode ``index``'s class ``label``.

        What comes next in the episode's own permutation of the class, ``number`` places after all that the
        episode may use; after the last place the permutation begins anew.
        """
        ways, classes = self._draw_classes(np.arange(index, index + 1))
        class_id = int(classes[0, label])
        counts = self._draw_query_counts(index, index + 1, ways, classes)
        used = self.max_shots + max(self.queries, int(counts[0, label]))
        size = int(self.table.counts[class_id])
        place = (used + number) % size
        key = fold(self._keys(np.arange(index, index + 1), _PICTURES), class_id)
        local = int(partial_permutation(key, size, place + 1)[0, place])
        row = local + int(self._starts[class_id])
        return row if self._order is None else int(self._order[row])

    def _keys(self, indices: Any, purpose: int) -> UInt64Array:
        """(T,) one stream for each episode and purpose."""
        return fold(fold(fold(START, self.seed & (1 << 64) - 1), indices), purpose)

    def _draw_classes(self, indices: Int64Array) -> tuple[Int64Array, Int64Array]:
        """(T,) ways and (T, N) classes, -1 beyond an episode's ways."""
        low, high = self.ways
        ways = low + bounded(self._keys(indices, _WAY), high - low + 1)
        width = int(ways.max())
        chosen = partial_permutation(self._keys(indices, _CLASSES), len(self.eligible), width)
        return ways, np.where(np.arange(width) < ways[:, None], self.eligible[chosen], -1)

    def _draw_shots(self, start: int, stop: int, ways: Int64Array, classes: Int64Array) -> Int64Array:
        """(T, N) shots, 0 beyond an episode's ways."""
        low, high = self.shots
        keys = self._keys(np.arange(start, stop), _SHOT)[:, None]
        if self.shots_per_class:
            keys = fold(keys, np.maximum(classes, 0))
        return np.where(classes >= 0, low + bounded(keys, high - low + 1), 0)

    def _draw_query_counts(self, start: int, stop: int, ways: Int64Array, classes: Int64Array) -> Int64Array:
        """(T, N) queries, 0 beyond an episode's ways."""
        if self.query_balance is None:
            return np.where(classes >= 0, self.queries, 0)
        keys = self._keys(np.arange(start, stop), _BALANCE)
        caps = np.where(classes >= 0, self.table.counts[classes] - self.max_shots, 0)
        return unbalanced_counts(keys, ways, caps, ways * self.queries, self.query_balance)

    def _draw_pictures(self, start: int, stop: int, classes: Int64Array, shots: int, queries: int) -> Int64Array:
        """(T, N, P) rows: ``queries`` queries, then supports, then the further queries of unbalanced sets.

        No more places are drawn than the batch uses: the early ones do not depend on the later.
        """
        draws = self.queries + (shots if queries <= self.queries else self.max_shots + queries - self.queries)
        real = np.maximum(classes, 0)
        keys = fold(self._keys(np.arange(start, stop), _PICTURES)[:, None], real).reshape(-1)
        local = partial_permutation(keys, self.table.counts[real].reshape(-1), draws)
        # Places beyond a small class are -1, and no count reaches them; 0 keeps the look-up in bounds.
        rows = np.maximum(local, 0, out=local)
        rows += self._starts[real].reshape(-1, 1)
        rows = rows if self._order is None else self._order[rows]
        return np.asarray(rows).reshape(*classes.shape, draws)

    @staticmethod
    def _pick(rows: Int64Array, classes: Int64Array, counts: Int64Array) -> tuple[Int64Array, Int64Array]:
        """The first ``counts`` (T, N) of ``rows`` (T, N, P), class after class, as (T, S) rows and labels."""
        width = int(counts.max())
        labels = np.empty((*classes.shape, width), dtype=np.int64)
        labels[:] = np.arange(classes.shape[1])[:, None]
        if bool((counts == width).all()):
            return np.array(rows[:, :, :width]).reshape(len(rows), -1), labels.reshape(len(rows), -1)
        used = np.arange(width) < counts[:, :, None]
        lengths = counts.sum(axis=1)
        filled = np.arange(lengths.max()) < lengths[:, None]
        picked, picked_labels = np.full(filled.shape, UNKNOWN, dtype=np.int64), np.full(filled.shape, UNKNOWN)
        picked[filled] = rows[:, :, :width][used]
        picked_labels[filled] = labels[used]
        return picked, picked_labels

    def _most_queries(self) -> str:
        """How many queries there could be, where leaving some out would do."""
        counts = sorted(self.table.counts.tolist(), reverse=True)
        most = counts[self.ways[1] - 1] - self.max_shots if len(counts) >= self.ways[1] else 0
        return f" ({most} of these at most)" if most >= 1 else ""

    def _explain_too_few(self) -> str:
        needed = self.max_shots + self.queries
        small = [label for label, count in enumerate(self.table.counts.ravel().tolist()) if count < needed]
        named = ", ".join(f"{self.table.class_names[i]} ({self.table.counts[i]})" for i in small[:_NAMED])
        more = f" and {len(small) - _NAMED} more" if len(small) > _NAMED else ""
        too_small = f"; too small: {named}{more}" if small else ""
        return (
            f"an episode of {self.ways[1]} ways needs {self.ways[1]} classes with at least {needed} pictures "
            f"({counted(self.max_shots, 'shot')} + {counted(self.queries, 'query', 'queries')}), found {len(self.eligible)} among "
            f"{len(self.table.class_names)}{too_small}. Ask for fewer ways, shots or queries{self._most_queries()}, or add pictures"
        )


def _range(name: str, value: int | tuple[int, int]) -> tuple[int, int]:
    low, high = (value, value) if not isinstance(value, Sequence) else value
    low, high = operator.index(low), operator.index(high)
    if not 1 <= low <= high:
        raise UsageError(f"{name} is a number of at least 1, or a range from low to high; found {value}")
    return low, high


def _at_least_one(name: str, value: int) -> int:
    if operator.index(value) < 1:
        raise UsageError(f"{name} is at least 1, found {value}")
    return operator.index(value)


def _ends(ends: tuple[int, int]) -> str:
    return range_text(ends[0] if ends[0] == ends[1] else ends)
