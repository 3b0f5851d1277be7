"""learn2learn, both ways: our folders and episodes as its data and task sets, its task sets as our episodes.

torch and learn2learn are imported inside the functions that need them: the engine works without either.
"""

import os
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from episodes.episode import Episode
from episodes.errors import DataError, UsageError
from episodes.from_learn2learn import from_meta_dataset, from_taskset
from episodes.install_learn2learn import import_learn2learn
from episodes.sampler import EpisodeSampler
from episodes.table import ImageTable

__all__ = ["from_meta_dataset", "from_taskset", "import_learn2learn", "to_meta_dataset", "to_taskset"]

TaskTransforms = Callable[[Any], Sequence[Callable[[Any], Any]]]
"""The data set -> task transforms over it, such as ``lambda dataset: [LoadData(dataset), RemapLabels(dataset)]``."""


def to_meta_dataset(
    table: ImageTable, transform: Callable[[Any], Any] | None = None, *, load: Callable[[Any], Any] | None = None
) -> Any:
    """A ``learn2learn.data.MetaDataset`` of the table's pictures, its bookkeeping filled from the table: no picture is opened.

    Args:
        table: the pictures; item i of the data set is row i, as (picture, number of its class).
        transform: called with what `load` gives, as torchvision's data sets do; without it a Pillow image becomes a (3, H, W)
            float32 tensor in [0, 1].
        load: gives the picture of one item of the table; by default a path is opened as an upright RGB Pillow image. Of a
            (picture, label) pair, as another data set's ``__getitem__`` gives it, only the picture is taken.

    Returns:
        The data set.

    Raises:
        DataError: some picture of the table has no class.
        UsageError: learn2learn is not installed.
    """
    data = import_learn2learn().data
    unknown = int((table.labels < 0).sum())
    if unknown:
        raise DataError(f"learn2learn knows every picture's class; of the table's {len(table)}, {unknown} have none")
    rows = {label: table.rows_of(label).tolist() for label in range(len(table.class_names))}
    pictures = _classes()["PictureDataset"](table, transform, load or open_picture)
    return data.MetaDataset(pictures, labels_to_indices={label: found for label, found in rows.items() if found})


def to_taskset(
    source: ImageTable | EpisodeSampler,
    transform: Callable[[Any], Any] | None = None,
    *,
    load: Callable[[Any], Any] | None = None,
    task_transforms: TaskTransforms | None = None,
    num_tasks: int = -1,
) -> Any:
    """A ``learn2learn.data.Taskset`` over our folders, without opening any picture.

    Of a sampler, task i is episode i, whenever it is asked for: class after class, in each its support and then its queries, so
    ``partition_task(data, labels, shots)`` finds the sampler's own support and query. Labels are the episode's, 0 to N - 1.

    Of a table, learn2learn's own task transforms draw the tasks.

    Args:
        source: what to make tasks from.
        transform: see `to_meta_dataset`.
        load: see `to_meta_dataset`.
        task_transforms: as learn2learn's, made for the data set; of a sampler they get the episode's description (and must load
            the data: ``LoadData(dataset)``) in place of loading and relabelling. More can be appended to the task set's own list.
        num_tasks: of a table; -1 is endless. A sampler has as many tasks as episodes.

    Returns:
        The task set.

    Raises:
        UsageError: learn2learn is not installed, a table came without task transforms, or a sampler with a number of tasks.
        DataError: see `to_meta_dataset`.
    """
    if isinstance(source, EpisodeSampler):
        if num_tasks != -1:
            raise UsageError(
                f"num_tasks is {num_tasks}: a sampler has as many tasks as episodes, {len(source)}; leave it out"
            )
        dataset = to_meta_dataset(source.table, transform, load=load)
        return _classes()["SampledTaskset"](source, dataset, task_transforms)
    if task_transforms is None:
        raise UsageError(
            "to_taskset of a table needs task_transforms, which draw the tasks (such as lambda dataset: "
            "[FusedNWaysKShots(dataset, n=5, k=10), LoadData(dataset), RemapLabels(dataset)]); or give an EpisodeSampler"
        )
    dataset = to_meta_dataset(source, transform, load=load)
    taskset = import_learn2learn().data.Taskset(dataset, list(task_transforms(dataset)), num_tasks=num_tasks)
    return taskset


def open_picture(item: Any) -> Any:
    """An upright RGB Pillow image of the file at a path.

    Raises:
        DataError: it cannot be read, or the item is no path.
    """
    from PIL import Image, ImageOps

    if not isinstance(item, str | os.PathLike):
        raise DataError(
            f"{item!r}: is not a path; to_taskset and to_meta_dataset take load= for pictures that are not files"
        )
    try:
        with Image.open(item) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{os.fspath(item)}: cannot be read as a picture ({error}). Mend it, or remove it") from error


class _Pictures:
    """What a `PictureDataset` does: row -> (picture, class)."""

    def __init__(self, table: ImageTable, transform: Callable[[Any], Any] | None, load: Callable[[Any], Any]) -> None:
        self.table, self.transform, self.load = table, transform, load

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, row: int) -> tuple[Any, int]:
        picture = self.load(self.table.items[row])
        if isinstance(picture, tuple):
            picture = picture[0]
        if self.transform is not None:
            picture = self.transform(picture)
        elif hasattr(picture, "getbands"):
            import torch

            picture = torch.from_numpy(np.array(picture, dtype=np.float32)).permute(2, 0, 1) / 255
        return picture, int(self.table.labels[row])


class _SampledTasks:
    """What a `SampledTaskset` does: task i is the sampler's episode i, described when it is first asked for."""

    sampled_descriptions: dict[int, list[Any]]
    task_transforms: Any

    def __init__(self, sampler: EpisodeSampler, dataset: Any, task_transforms: TaskTransforms | None) -> None:
        made = [] if task_transforms is None else list(task_transforms(dataset))
        super().__init__(dataset, made, num_tasks=len(sampler))  # type: ignore[call-arg]
        self.sampler, self._loads, self._asked = sampler, task_transforms is None, 0

    def describe(self, index: int) -> list[Any]:
        """The description of task ``index``, through the task transforms; the same one whenever it is asked for."""
        if index not in self.sampled_descriptions:
            description: Any = self._of_episode(self.sampler[index])
            transforms = [self.task_transforms] if callable(self.task_transforms) else self.task_transforms
            for transform in transforms:
                description = transform(description)
            self.sampled_descriptions[index] = description
        return self.sampled_descriptions[index]

    def sample_task_description(self) -> list[Any]:
        """The description of the next task; after the last one the first again."""
        index, self._asked = self._asked, (self._asked + 1) % len(self.sampler)
        return self.describe(index)

    def __getitem__(self, index: int) -> Any:
        number = range(len(self.sampler))[index]
        return self.get_task(self.describe(number))  # type: ignore[attr-defined]

    def _of_episode(self, episode: Episode) -> list[Any]:
        from learn2learn.data import DataDescription

        assert episode.query_labels is not None  # a sampler's episodes know them
        labels = np.concatenate([episode.support_labels, episode.query_labels])
        rows = np.concatenate([episode.support, episode.query])[np.argsort(labels, kind="stable")]
        description = [DataDescription(row) for row in rows.tolist()]
        if self._loads:
            classes = self.sampler.table.labels[episode.support].tolist()
            positions = dict(zip(classes, episode.support_labels.tolist(), strict=True))
            load = partial(_load_relabelled, self.dataset, positions)  # type: ignore[attr-defined]
            for each in description:
                each.transforms = [load]
        return description


def _load_relabelled(dataset: Any, positions: dict[int, int], row: int) -> tuple[Any, int]:
    picture, label = dataset[row]
    return picture, positions[label]


@cache
def _classes() -> dict[str, type]:
    """The two classes whose bases are torch's and learn2learn's, which are not imported before they are needed."""
    from torch.utils.data import Dataset

    found: dict[str, tuple[type, ...]] = {
        "PictureDataset": (_Pictures, Dataset),
        "SampledTaskset": (_SampledTasks, import_learn2learn().data.Taskset),
    }
    return {name: type(name, bases, {"__module__": __name__}) for name, bases in found.items()}


def __getattr__(name: str) -> Any:
    if name in ("PictureDataset", "SampledTaskset"):  # by their names pickle finds them, in a loading process
        return _classes()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
