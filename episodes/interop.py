"""learn2learn, both ways: our episodes as one of its task sets, its task sets as our episodes.

torch and learn2learn are imported inside the functions that need them: the engine works without either.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from episodes.episode import UNKNOWN, Episode
from episodes.errors import DataError, UsageError
from episodes.table import ImageTable

if TYPE_CHECKING:
    import torch

_INSTALL = (
    "learn2learn is not installed. Its 0.2.0 release needs Cython 3: pip install cython 'setuptools<81' "
    "wheel gym requests scipy, then pip install --use-pep517 --no-build-isolation --no-deps "
    "--config-settings=--global-option=build_ext learn2learn==0.2.0"
)


class EpisodeTaskset:
    """Episodes that behave as a ``learn2learn.data.Taskset``: each task is (data, labels), support first.

    Within support and query the classes follow one another, so
    ``learn2learn.data.partition_task(data, labels, shots)`` finds the same support and query where
    classes are of equal size.

    Args:
        table: the pictures.
        episodes: a sampler, or any sequence of episodes.
        load: gives the picture tensor of one item of the table (for a folder, of a path). A data set's
            ``__getitem__`` will do: of a (picture, label) pair only the picture is taken.
    """

    def __init__(self, table: ImageTable, episodes: Sequence[Episode], load: Callable[[Any], Any]) -> None:
        if not len(episodes):
            raise DataError("an EpisodeTaskset needs at least one episode, found none")
        self.table = table
        self.episodes = episodes
        self.load = load
        self._next = 0

    def __len__(self) -> int:
        return len(self.episodes)

    def __getitem__(self, index: int) -> "tuple[torch.Tensor, torch.Tensor]":
        """Task ``index``: (S+Q, ...) pictures and (S+Q,) int64 labels, -1 where a query's is hidden."""
        import torch

        episode = self.episodes[index]
        hidden = np.full(len(episode.query), UNKNOWN, dtype=np.int64)
        labels = [episode.support_labels, hidden if episode.query_labels is None else episode.query_labels]
        rows = np.concatenate([episode.support, episode.query]).tolist()
        data = torch.stack([torch.as_tensor(self._picture(row)) for row in rows])
        return data, torch.from_numpy(np.concatenate(labels))

    def __iter__(self) -> "Iterator[tuple[torch.Tensor, torch.Tensor]]":
        return (self[index] for index in range(len(self)))

    def sample(self) -> "tuple[torch.Tensor, torch.Tensor]":
        """The next task; after the last one the first again. No global random state is touched."""
        index, self._next = self._next, (self._next + 1) % len(self)
        return self[index]

    def _picture(self, row: int) -> Any:
        loaded = self.load(self.table.items[row])
        return loaded[0] if isinstance(loaded, tuple) else loaded


def from_meta_dataset(dataset: Any) -> ImageTable:
    """The table of a ``learn2learn.data.MetaDataset`` (or of a plain data set, which it then wraps).

    Items are the indices of the data set, classes its labels in ascending order.

    Raises:
        UsageError: learn2learn is not installed.
    """
    data = _meta_dataset(dataset)
    labels = sorted(data.labels_to_indices)
    numbers = {label: number for number, label in enumerate(labels)}
    items: list[Hashable] = sorted(data.indices_to_labels)
    classes = np.array([numbers[data.indices_to_labels[item]] for item in items], dtype=np.int32)
    return ImageTable(items, classes, tuple(str(label) for label in labels))


def from_taskset(taskset: Any, shots: int, *, tasks: int | None = None) -> tuple[ImageTable, list[Episode]]:
    """The tasks of a ``learn2learn.data.Taskset`` as a table and episodes.

    In each class the first ``shots`` pictures of a task are support and the others query, as
    ``learn2learn.data.partition_task`` divides them. Only descriptions are read, no picture is loaded. A
    task set with a number of tasks keeps them: ``taskset[i]`` stays episode i. New tasks are drawn by
    learn2learn, from Python's global random state.

    Args:
        taskset: its data set must be a MetaDataset; labels are the data set's own, not remapped ones.
        shots: support pictures of each class.
        tasks: how many. Needed where the task set is endless; default: all.

    Raises:
        UsageError: learn2learn is not installed; an endless task set without ``tasks``, more tasks than there
            are, or shots below 1.
        DataError: a class of a task has no picture left for the query, or a picture is in both.
    """
    endless = taskset.num_tasks == -1
    count = taskset.num_tasks if tasks is None else tasks
    if shots < 1 or count < 1 or (not endless and count > taskset.num_tasks):
        available = "as many tasks as asked for with tasks=" if endless else f"{taskset.num_tasks} tasks"
        raise UsageError(f"from_taskset takes shots of at least 1 and {available}; found {shots} shots, tasks={tasks}")
    table = from_meta_dataset(taskset.dataset)
    row_of = {item: row for row, item in enumerate(table.items)}
    episodes = []
    for number in range(count):
        if not endless and number not in taskset.sampled_descriptions:
            taskset.sampled_descriptions[number] = taskset.sample_task_description()
        described = taskset.sample_task_description() if endless else taskset.sampled_descriptions[number]
        rows = np.array([row_of[description.index] for description in described], dtype=np.int64)
        episodes.append(_divide(table, f"task{number}", rows, shots))
    return table, episodes


def _divide(table: ImageTable, name: str, rows: np.ndarray[Any, np.dtype[np.int64]], shots: int) -> Episode:
    """An episode whose labels number the classes by first appearance."""
    classes = list(dict.fromkeys(table.labels[rows].tolist()))
    by_class = [rows[table.labels[rows] == label] for label in classes]
    for label, of_class in zip(classes, by_class, strict=True):
        if len(of_class) <= shots:
            raise DataError(
                f"{name}: class {table.class_names[label]} has {len(of_class)} pictures, {shots} shots leave "
                "none for the query; sample more with KShots"
            )
    sizes = [len(of_class) - shots for of_class in by_class]
    return Episode(
        name=name,
        class_names=tuple(table.class_names[label] for label in classes),
        support=np.concatenate([of_class[:shots] for of_class in by_class]),
        support_labels=np.repeat(np.arange(len(classes)), shots),
        query=np.concatenate([of_class[shots:] for of_class in by_class]),
        query_labels=np.repeat(np.arange(len(classes)), sizes),
    )


def _meta_dataset(dataset: Any) -> Any:
    if hasattr(dataset, "labels_to_indices") and hasattr(dataset, "indices_to_labels"):
        return dataset
    try:
        from learn2learn.data import MetaDataset
    except ImportError as error:
        raise UsageError(_INSTALL) from error
    return MetaDataset(dataset)
