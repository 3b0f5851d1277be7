"""A sampler's episodes as the tasks of a ``learn2learn.data.Taskset``: described many at a time, and only when they are asked for.

P pictures a task: class after class, in each its support and then its queries.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

from episodes.counter_random import Int64Array
from episodes.install_learn2learn import import_learn2learn
from episodes.sampler import EpisodeSampler

_TASKS, _PICTURES = 64, 50_000  # drawn at a time, where a task costs a fraction; and pictures at most

TaskTransforms = Callable[[Any], Sequence[Callable[[Any], Any]]]
"""The data set -> task transforms over it, such as ``lambda dataset: [LoadData(dataset), RemapLabels(dataset)]``."""


class _Block(NamedTuple):
    """Tasks that were drawn together: (T, P) rows of the table, padding last; (T,) lengths without it; (T, N) classes."""

    rows: Int64Array
    lengths: Int64Array
    classes: Int64Array


class SampledTasks:
    """What the task set does beside what learn2learn's does; `sampled_taskset_class` joins the two.

    Attributes:
        sampler: whose episode i is task i.
    """

    sampled_descriptions: dict[int, list[Any]]
    task_transforms: Any

    def __init__(self, sampler: EpisodeSampler, dataset: Any, task_transforms: TaskTransforms | None) -> None:
        """See `episodes.interop.to_taskset`."""
        made = [] if task_transforms is None else list(task_transforms(dataset))
        super().__init__(dataset, made, num_tasks=len(sampler))  # type: ignore[call-arg]
        self.sampler, self._loads, self._asked = sampler, task_transforms is None, 0
        pictures = sampler.ways[1] * (sampler.max_shots + sampler.queries)
        self._together = max(1, min(_TASKS, _PICTURES // pictures))
        self._blocks: dict[int, _Block] = {}

    def describe(self, index: int) -> list[Any]:
        """The description of task ``index``, through the task transforms; the same whenever it is asked for.

        It is kept where transforms made it, for they may draw. Others are made anew: a million kept objects would slow all that
        Python does after them.
        """
        known = self.sampled_descriptions.get(index)
        if known is None:
            known = self._of_episode(index)
            transforms = [self.task_transforms] if callable(self.task_transforms) else self.task_transforms
            for transform in transforms:
                known = transform(known)
            if transforms:
                self.sampled_descriptions[index] = known
        return known

    def sample_task_description(self) -> list[Any]:
        """The description of the next task; after the last one the first again."""
        index, self._asked = self._asked, (self._asked + 1) % len(self.sampler)
        return self.describe(index)

    def __getitem__(self, index: int) -> Any:
        number = range(len(self.sampler))[index]
        description = self.sampled_descriptions[number] = self.describe(number)  # where learn2learn's users look
        return self.get_task(description)  # type: ignore[attr-defined]

    def _of_episode(self, index: int) -> list[Any]:
        from learn2learn.data import DataDescription

        number, place = divmod(index, self._together)
        block = self._blocks.get(number)
        if block is None:
            block = self._blocks[number] = self._draw(number * self._together)
        description = [DataDescription(row) for row in block.rows[place, : block.lengths[place]].tolist()]
        if self._loads:
            positions = {label: position for position, label in enumerate(block.classes[place].tolist())}
            load = partial(_load_relabelled, self.dataset, positions)  # type: ignore[attr-defined]
            for each in description:
                each.transforms = [load]
        return description

    def _draw(self, start: int) -> _Block:
        batch = self.sampler.batch(start, min(start + self._together, len(self.sampler)))
        rows = np.concatenate([batch.support, batch.query], axis=1)
        labels = np.concatenate([batch.support_labels, batch.query_labels], axis=1)
        labels[rows < 0] = batch.class_ids.shape[1]
        ordered = np.take_along_axis(rows, np.argsort(labels, axis=1, kind="stable"), axis=1)
        return _Block(ordered, (rows >= 0).sum(axis=1), batch.class_ids)


def _load_relabelled(dataset: Any, positions: dict[int, int], row: int) -> tuple[Any, int]:
    picture, label = dataset[row]
    return picture, positions[label]


@cache
def sampled_taskset_class() -> type:
    """`SampledTasks` joined with learn2learn's Taskset, which is not imported before it is needed.

    Raises:
        UsageError: learn2learn is not installed.
    """
    return type("SampledTaskset", (SampledTasks, import_learn2learn().data.Taskset), {"__module__": __name__})


def __getattr__(name: str) -> Any:
    if name == "SampledTaskset":  # by its name pickle finds it, in a loading process
        return sampled_taskset_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
