"""Episodes to tensors: a DataLoader over an episode sampler, for `fewshot train` and for anyone's own loop.

T episodes a step, S support and Q query pictures an episode, N ways. What a step holds is a pure function of the sampler, the
augmentation, the seed and the step's number: worker processes, their count, and where a run was resumed change nothing.
A step holds what its source gives: pictures, or what a frozen trunk makes of them (see `fewshot.embedding.hidden_states`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import DataLoader

from episodes import EpisodeSampler
from episodes.decoding import read_bytes
from episodes.errors import DataError, UsageError
from fewshot.distributed import leave_signals_to_parent
from fewshot.images.augmentation import Augmentation
from fewshot.images.augmented_views import PictureSource
from fewshot.images.reading_board import ReadingBoard
from fewshot.training.episode_tensors import EpisodeTensors
from fewshot.training.steps import Source, Steps

__all__ = ["EpisodeLoader", "EpisodeTensors", "Source"]


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
        self._dataset = Steps(sampler, source, episodes_per_step, rank * share, share, seed, self._board)
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
