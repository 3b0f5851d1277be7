"""Episodes to tensors: a DataLoader over an episode sampler, for `fewshot train` and for anyone's own loop.

T episodes a step, S support and Q query pictures an episode, N ways. What a step holds is a pure function of the sampler, the
augmentation, the seed and the step's number: worker processes, their count, and where a run was resumed change nothing.
A step holds what its source gives: pictures, or what a frozen trunk makes of them (see `fewshot.embedding.hidden_states`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from episodes import EpisodeBatch, EpisodeSampler
from episodes.counter_random import random_bits
from episodes.errors import DataError, UsageError
from fewshot.distributed import leave_signals_to_parent
from fewshot.images.augmentation import Augmentation
from fewshot.images.augmented_views import PictureSource
from fewshot.images.decoding import UnreadableImage, read_bytes
from fewshot.images.reading_board import ReadingBoard


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


@dataclass(frozen=True, eq=False)
class EpisodeTensors:
    """The pictures and labels of one step; labels of -1 are padding.

    Attributes:
        step: its number.
        support: (T, S, 3, H, W) uint8, or (T, S, ...) hidden states where the source gives those.
        support_labels: (T, S) int64 in [0, N).
        query: (T, Q, 3, H, W) uint8, likewise.
        query_labels: (T, Q) int64 in [0, N).
        support_classes: (T, S) int64, the same pictures' classes in the sampler's table.
        query_classes: (T, Q) int64, likewise.
        n_way: N, the largest number of classes among the T episodes.
        replaced: path -> why it could not be read; another picture of its class stands in its place.
    """

    step: int
    support: Tensor
    support_labels: Tensor
    query: Tensor
    query_labels: Tensor
    support_classes: Tensor
    query_classes: Tensor
    n_way: int
    replaced: dict[str, str] = field(default_factory=dict)

    def to(self, device: str | torch.device) -> EpisodeTensors:
        """A copy whose tensors lie on another device."""
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)

    @property
    def images(self) -> Tensor:
        """(T * (S + Q), 3, H, W) uint8 (or hidden states): support and query of each episode, for one pass through the encoder."""
        return torch.cat([self.support, self.query], dim=1).flatten(0, 1)

    @property
    def classes(self) -> Tensor:
        """(T * (S + Q),) int64: training classes of `images`, -1 for padding."""
        return torch.cat([self.support_classes, self.query_classes], dim=1).flatten()

    def split(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """(T * (S + Q), ...) in the order of `images` -> support (T, S, ...) and query (T, Q, ...)."""
        tasks, shots = self.support.shape[:2]
        parts = values.reshape(tasks, -1, *values.shape[1:])
        return parts[:, :shots], parts[:, shots:]


class EpisodeLoader:
    """Iterates over steps of `episodes_per_step` episodes as `EpisodeTensors`.

    With several processes (`processes`, `rank`) each gets its share of every step's episodes.
    """

    def __init__(
        self,
        sampler: EpisodeSampler,
        image_size: int,
        *,
        augmentation: Augmentation | None = None,
        views: int | None = None,
        episodes_per_step: int = 1,
        first_step: int = 0,
        workers: int = 0,
        seed: int = 0,
        rank: int = 0,
        processes: int = 1,
        pin_memory: bool = False,
        read: Callable[[Any], bytes] = read_bytes,
        source: Source | None = None,
    ) -> None:
        """Plan the pictures of every step; the loading processes start with the first.

        Args:
            sampler: its length is the number of episodes; steps are len(sampler) // episodes_per_step.
            image_size: pictures become (3, image_size, image_size).
            augmentation: None is CLIP's test transform.
            views: every picture has this many fixed augmented views, and a step draws among them; None augments anew each time.
            episodes_per_step: T over all processes.
            first_step: where to begin, for resuming.
            workers: loading processes; 0 loads in this one.
            seed: of the augmentation.
            rank: this process among those that share each step.
            processes: how many share each step.
            pin_memory: page-locked memory, for a GPU.
            read: gives the bytes of an item of the sampler's table.
            source: what fills a step instead of pictures; `augmentation`, `views` and `read` are then not looked at.

        Raises:
            UsageError: the processes cannot share a step evenly, or there is no step to iterate over.
        """
        if episodes_per_step % processes:
            raise UsageError(
                f"{episodes_per_step} episodes a step cannot be shared by {processes} processes: give a multiple"
            )
        self._steps = len(sampler) // episodes_per_step
        if first_step >= self._steps:
            raise UsageError(
                f"there is no step to load: {self._steps} steps of {episodes_per_step} episodes, first_step {first_step}"
            )
        self._first = first_step
        share = episodes_per_step // processes
        if source is None:
            source = PictureSource(sampler.table.items, image_size, augmentation, views=views, seed=seed, read=read)
        self._items, self._board = sampler.table.items, ReadingBoard(workers)
        self._dataset = _Steps(sampler, source, episodes_per_step, rank * share, share, seed, self._board)
        self._workers, self._pin = workers, pin_memory

    def __len__(self) -> int:
        return self._steps - self._first

    def naming_deaths(self) -> AbstractContextManager[None]:
        """A context for the training loop: if a loading process dies, raise a `DataError` that names the picture it was reading."""
        return self._board.naming_deaths(self._items)

    def __iter__(self) -> Iterator[EpisodeTensors]:
        loader: DataLoader[EpisodeTensors | DataError] = DataLoader(
            self._dataset,
            batch_size=None,
            sampler=range(self._first, self._steps),
            num_workers=self._workers,
            pin_memory=False,
            prefetch_factor=4 if self._workers else None,
            worker_init_fn=leave_signals_to_parent,
            generator=torch.Generator(),  # its base seed would otherwise come from the global generator
        )
        for step in loader:
            if isinstance(step, DataError):
                raise step
            yield _pinned(step) if self._pin else step


def _pinned(step: EpisodeTensors) -> EpisodeTensors:
    return replace(step, support=step.support.pin_memory(), query=step.query.pin_memory())


class _Steps(Dataset[EpisodeTensors | DataError]):
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
