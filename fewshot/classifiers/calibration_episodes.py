"""Episodes to calibrate on: of every size that the classes allow, some classes left out of the support as foreign ones."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from episodes import EpisodeBatch, EpisodeSampler, ImageTable
from episodes.counter_random import random_bits
from episodes.episode import OUTSIDE

WAYS, SHOTS = (2, 3, 5, 8, 13, 20), (1, 2, 3, 5, 10, 20)
QUERIES = 5  # a class, in every episode
QUERIES_OF_A_SIZE = 400  # of the episodes' own classes
FEWEST = 3  # classes: two to tell apart and one that is foreign


@dataclass(frozen=True, eq=False)
class Cell:
    """Episodes of one size.

    Attributes:
        ways, shots: of all of them.
        batch: the episodes, with the query label OUTSIDE where a query's class is left out.
    """

    ways: int
    shots: int
    batch: EpisodeBatch


def cells(table: ImageTable, seed: int, queries: int = QUERIES_OF_A_SIZE, every: int = 1) -> list[Cell]:
    """Episodes of every size that the classes allow, each with about so many queries of its own classes.

    Args:
        table: the classes.
        seed: of the episodes.
        queries: of each size.
        every: 2 takes every other number of ways and of shots only.
    """
    counts, found = np.sort(table.counts)[::-1], []
    for shots in SHOTS[::every]:
        for ways in WAYS[::every]:
            classes = int((counts >= shots + QUERIES).sum())
            each = QUERIES
            if classes < FEWEST <= int((counts >= shots + 1).sum()):  # small classes are better than none
                classes, each = int((counts >= shots + 1).sum()), 1
            left_out = min(classes - ways, max(5, ways))
            if left_out < 1:
                continue
            sampler = EpisodeSampler(
                table,
                ways=ways + left_out,
                shots=shots,
                queries=each,
                seed=random_bits(seed, "calibration", ways, shots) >> 1,
                episodes=max(20, -(-queries // (ways * each))),
            )
            found.append(Cell(ways, shots, leave_classes_out(sampler.batch(0, len(sampler)), ways)))
    return found


def leave_classes_out(batch: EpisodeBatch, keep: int) -> EpisodeBatch:
    """The same episodes without the support of their classes from number `keep` on; queries of those get the label OUTSIDE."""
    gone = batch.support_labels >= keep
    return dataclasses.replace(
        batch,
        n_way=np.minimum(batch.n_way, keep),
        class_ids=batch.class_ids[:, :keep],
        support=np.where(gone, -1, batch.support)[:, : _last(~gone)],
        support_labels=np.where(gone, -1, batch.support_labels)[:, : _last(~gone)],
        query_labels=np.where(batch.query_labels >= keep, OUTSIDE, batch.query_labels),
    )


def _last(kept: npt.NDArray[np.bool_]) -> int:
    """One more than the last column (T, S) that any row keeps: rows and labels of an episode come in order of its classes."""
    return int(np.flatnonzero(kept.any(0)).max(initial=-1)) + 1


def halves_of(table: ImageTable, seed: int) -> list[ImageTable]:
    """The same rows, in which only the classes of one half are known; classes without pictures are in neither."""
    present = np.flatnonzero(table.counts).tolist()
    order = sorted(present, key=lambda label: random_bits(seed, "calibration halves", label))
    return [
        dataclasses.replace(table, labels=np.where(np.isin(table.labels, half), table.labels, -1))
        for half in (order[::2], order[1::2])
    ]
