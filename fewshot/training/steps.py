"""Step number -> its episodes as tensors, in whatever process: a pure function of the sampler, the source, the seed and the number.

T episodes a step, S support and Q query pictures an episode.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from episodes import EpisodeBatch, EpisodeSampler
from episodes.counter_random import random_bits
from episodes.decoding import UnreadableImage
from episodes.errors import DataError
from fewshot.images.reading_board import ReadingBoard
from fewshot.training.episode_tensors import EpisodeTensors


class Source(Protocol):
    """What a step's places are filled with: (row of the table, key of the place) -> a tensor of one shape and type."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one picture's tensor."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """uint8 for pictures; a floating type for hidden states."""
        ...

    def __call__(self, row: int, key: int) -> Tensor:
        """The tensor of a picture; raises `UnreadableImage` where there is none."""
        ...


class Steps(Dataset[EpisodeTensors | DataError]):
    """step number -> EpisodeTensors, or the error that the parent is to raise: torch would wrap it in a worker's trace."""

    def __init__(
        self,
        sampler: EpisodeSampler,
        source: Source,
        episodes_per_step: int,
        offset: int,
        share: int,
        seed: int,
        board: ReadingBoard,
    ) -> None:
        self._sampler, self._source, self._seed, self._board = sampler, source, seed, board
        self._per_step, self._offset, self._share = episodes_per_step, offset, share

    def __getitem__(self, step: int) -> EpisodeTensors | DataError:
        try:
            return self._step(step)
        except DataError as error:
            return error

    def _step(self, step: int) -> EpisodeTensors:
        first = step * self._per_step + self._offset
        batch = self._sampler.batch(first, first + self._share)
        replaced: dict[str, str] = {}
        spares = _Spares(self._sampler, first)
        parts = {}
        for part, rows, labels in (
            ("support", batch.support, batch.support_labels),
            ("query", batch.query, batch.query_labels),
        ):
            parts[part] = self._load(rows, labels, batch, step, part, spares, replaced)
        return EpisodeTensors(
            step,
            parts["support"],
            torch.from_numpy(batch.support_labels),
            parts["query"],
            torch.from_numpy(batch.query_labels),
            torch.from_numpy(_classes(batch, batch.support_labels)),
            torch.from_numpy(_classes(batch, batch.query_labels)),
            int(batch.n_way.max()),
            replaced,
        )

    def _load(
        self,
        rows: npt.NDArray[np.int64],
        labels: npt.NDArray[np.int64],
        batch: EpisodeBatch,
        step: int,
        part: str,
        spares: _Spares,
        replaced: dict[str, str],
    ) -> Tensor:
        """(T, S or Q, ...) as the source gives it; padded places stay 0."""
        filled = torch.zeros((*rows.shape, *self._source.shape), dtype=self._source.dtype)
        for task, place in np.argwhere(rows >= 0):
            row = int(rows[task, place])
            while True:
                self._board.note(row)
                try:
                    filled[task, place] = self._source(
                        row, random_bits(self._seed, step, self._offset + int(task), part, int(place))
                    )
                    break
                except UnreadableImage as error:
                    replaced[str(self._sampler.table.items[row])] = str(error)
                    row = spares.next(
                        int(task), int(labels[task, place]), int(batch.class_ids[task, labels[task, place]])
                    )
        return filled


class _Spares:
    """Stand-ins for unreadable pictures: what comes next in the episode's own permutation of the class."""

    def __init__(self, sampler: EpisodeSampler, first: int) -> None:
        self._sampler, self._first = sampler, first
        self._taken: dict[tuple[int, int], int] = {}

    def next(self, task: int, label: int, class_id: int) -> int:
        taken = self._taken.get((task, label), 0)
        if taken == self._sampler.table.counts[class_id]:
            raise DataError(
                f"no picture of class {self._sampler.table.class_names[class_id]!r} can be read: remove the class's folder, or "
                "mend its files"
            )
        self._taken[task, label] = taken + 1
        return self._sampler.spare(self._first + task, label, taken)


def _classes(batch: EpisodeBatch, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Episode labels -> classes of the table, -1 for padding."""
    return np.where(labels >= 0, np.take_along_axis(batch.class_ids, np.maximum(labels, 0), axis=1), -1)
