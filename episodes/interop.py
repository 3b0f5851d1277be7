"""learn2learn, both ways: our folders and episodes as its data and task sets, its task sets as our episodes.

torch and learn2learn are imported inside the functions that need them: the engine works without either.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from episodes.errors import DataError, UsageError
from episodes.folders import read_class_folders
from episodes.from_learn2learn import from_meta_dataset, from_taskset
from episodes.install_learn2learn import import_learn2learn
from episodes.kept_pictures import MOST_BYTES, KeptPictures
from episodes.sampled_tasks import TaskTransforms, sampled_taskset_class
from episodes.sampler import EpisodeSampler
from episodes.table import ImageTable

__all__ = ["from_meta_dataset", "from_taskset", "import_learn2learn", "to_meta_dataset", "to_taskset", "to_tasksets"]


def to_meta_dataset(
    table: ImageTable,
    transform: Callable[[Any], Any] | None = None,
    *,
    load: Callable[[Any], Any] | None = None,
    keep: int = MOST_BYTES,
) -> Any:
    """A ``learn2learn.data.MetaDataset`` of the table's pictures, its bookkeeping filled from the table: no picture is opened.

    Args:
        table: the pictures; item i of the data set is row i, as (picture, number of its class).
        transform: called with what `load` gives, as torchvision's data sets do; without it a Pillow image becomes a (3, H, W)
            float32 tensor in [0, 1].
        load: gives the picture of one item of the table; by default a path is opened as an upright RGB Pillow image. Of a
            (picture, label) pair, as another data set's ``__getitem__`` gives it, only the picture is taken.
        keep: bytes of decoded pictures that stay in memory, before `transform`, so that tasks that show them again need not open
            them again; 0 keeps none. What `load` gives is never kept.

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
    pictures = _picture_dataset_class()(table, transform, load, keep)
    return data.MetaDataset(pictures, labels_to_indices={label: found for label, found in rows.items() if found})


def to_taskset(
    source: ImageTable | EpisodeSampler,
    transform: Callable[[Any], Any] | None = None,
    *,
    load: Callable[[Any], Any] | None = None,
    keep: int = MOST_BYTES,
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
        keep: see `to_meta_dataset`.
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
        dataset = to_meta_dataset(source.table, transform, load=load, keep=keep)
        return sampled_taskset_class()(source, dataset, task_transforms)
    if task_transforms is None:
        raise UsageError(
            "to_taskset of a table needs task_transforms, which draw the tasks (such as lambda dataset: "
            "[FusedNWaysKShots(dataset, n=5, k=10), LoadData(dataset), RemapLabels(dataset)]); or give an EpisodeSampler"
        )
    dataset = to_meta_dataset(source, transform, load=load, keep=keep)
    return import_learn2learn().data.Taskset(dataset, list(task_transforms(dataset)), num_tasks=num_tasks)


def to_tasksets(
    train: ImageTable | str | Path,
    validation: ImageTable | str | Path,
    test: ImageTable | str | Path,
    transform: Callable[[Any], Any] | None = None,
    *,
    train_ways: int = 5,
    train_samples: int = 10,
    test_ways: int = 5,
    test_samples: int = 10,
    num_tasks: int = 20_000,
    seed: int = 0,
) -> Any:
    """What ``learn2learn.vision.benchmarks.get_tasksets`` gives, of class folders: its call and this one change places in a script.

    Args:
        train: class folders, or their table.
        validation: likewise.
        test: likewise.
        transform: see `to_meta_dataset`.
        train_ways: classes of a training task.
        train_samples: pictures of each class, the first half of them support and the others queries.
        test_ways: of validation and test tasks.
        test_samples: of validation and test tasks.
        num_tasks: in each task set.
        seed: of the episodes.

    Returns:
        The named tuple (train, validation, test) of task sets, each that of a sampler; see `to_taskset`.

    Raises:
        UsageError: learn2learn is not installed, or a number out of range.
        DataError: folders that cannot be read, or have not so many classes or pictures; see `EpisodeSampler`.
    """
    if min(train_samples, test_samples) < 2:
        raise UsageError(
            f"a task needs a support and a query picture of each class: at least 2 samples; found train_samples {train_samples}, "
            f"test_samples {test_samples}"
        )

    def made(source: ImageTable | str | Path, ways: int, samples: int) -> Any:
        table = source if isinstance(source, ImageTable) else read_class_folders(source)
        sampler = EpisodeSampler(
            table, ways=ways, shots=samples // 2, queries=samples - samples // 2, episodes=num_tasks, seed=seed
        )
        return to_taskset(sampler, transform)

    tasksets = import_learn2learn().vision.benchmarks.BenchmarkTasksets
    return tasksets(
        made(train, train_ways, train_samples),
        made(validation, test_ways, test_samples),
        made(test, test_ways, test_samples),
    )


class _Pictures:
    """What a `PictureDataset` does: row -> (picture, class)."""

    def __init__(
        self, table: ImageTable, transform: Callable[[Any], Any] | None, load: Callable[[Any], Any] | None, keep: int
    ) -> None:
        self.table, self.transform, self.load = table, transform, load
        self._labels: list[int] = table.labels.tolist()
        self._opened = KeptPictures(table.items, keep)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, row: int) -> tuple[Any, int]:
        picture = self._opened(row) if self.load is None else self.load(self.table.items[row])
        if isinstance(picture, tuple):
            picture = picture[0]
        if self.transform is not None:
            picture = self.transform(picture)
        elif hasattr(picture, "getbands"):
            import torch

            picture = torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().float() / 255
        return picture, self._labels[row]


@cache
def _picture_dataset_class() -> type:
    """`_Pictures` joined with torch's Dataset, which is not imported before it is needed."""
    from torch.utils.data import Dataset

    return type("PictureDataset", (_Pictures, Dataset), {"__module__": __name__})


def __getattr__(name: str) -> Any:
    if name == "PictureDataset":  # by its name pickle finds it, in a loading process
        return _picture_dataset_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
