"""learn2learn, both ways; skipped where it is not installed."""

import random
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from episodes import DataError, Episode, EpisodeSampler, ImageTable, UsageError
from episodes.interop import EpisodeTaskset, from_meta_dataset, from_taskset

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def l2l() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("learn2learn", reason="learn2learn is not installed (it needs a C compiler)")


LABELS = [5, 3, 9] * 12
ROWS_OF = {label: [i for i, value in enumerate(LABELS) if value == label] for label in (3, 5, 9)}


class Pictures(torch.utils.data.Dataset):  # type: ignore[misc,name-defined]
    """A data set whose picture i is the number i."""

    def __len__(self) -> int:
        return len(LABELS)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return torch.full((2, 2), float(index)), LABELS[index]


def taskset(l2l: Any, **settings: Any) -> Any:
    dataset = l2l.data.MetaDataset(Pictures())
    transforms = l2l.data.transforms
    steps = [
        transforms.NWays(dataset, n=2), transforms.KShots(dataset, k=5),
        transforms.LoadData(dataset), transforms.RemapLabels(dataset),
    ]  # fmt: skip
    return l2l.data.Taskset(dataset, steps, **settings)


def table() -> ImageTable:
    return ImageTable(range(36), np.array([{5: 0, 3: 1, 9: 2}[label] for label in LABELS]), ("5", "3", "9"))


def test_a_sampler_as_a_taskset() -> None:
    sampler = EpisodeSampler(table(), ways=2, shots=2, queries=3, episodes=3)
    tasks = EpisodeTaskset(table(), sampler, Pictures().__getitem__)
    assert len(tasks) == 3 and len(list(tasks)) == 3
    sampled = [tasks.sample() for _ in range(4)]
    for (data, labels), episode in zip(sampled, [*sampler, sampler[0]], strict=True):
        assert episode.query_labels is not None and labels.dtype == torch.int64 and data.shape == (10, 2, 2)
        assert data[:, 0, 0].int().tolist() == [*episode.support.tolist(), *episode.query.tolist()]
        assert labels.tolist() == [*episode.support_labels.tolist(), *episode.query_labels.tolist()]


def test_learn2learn_divides_our_tasks_as_we_do(l2l: Any) -> None:
    sampler = EpisodeSampler(table(), ways=3, shots=2, queries=4, episodes=2)
    data, labels = EpisodeTaskset(table(), sampler, lambda item: torch.tensor([float(item)])).sample()
    (support, support_labels), (query, query_labels) = l2l.data.partition_task(data, labels, shots=2)
    episode = sampler[0]
    assert support[:, 0].int().tolist() == episode.support.tolist()
    assert query[:, 0].int().tolist() == episode.query.tolist()
    assert support_labels.tolist() == episode.support_labels.tolist()
    assert episode.query_labels is not None and query_labels.tolist() == episode.query_labels.tolist()


def test_hidden_labels_and_no_episodes() -> None:
    hidden = Episode("h", ("a",), np.array([0]), np.array([0]), np.array([1, 2]), None)
    assert EpisodeTaskset(table(), [hidden], Pictures().__getitem__)[0][1].tolist() == [0, -1, -1]
    with pytest.raises(DataError, match="at least one"):
        EpisodeTaskset(table(), [], Pictures().__getitem__)


def test_a_meta_dataset_as_a_table(l2l: Any) -> None:
    for dataset in (Pictures(), l2l.data.MetaDataset(Pictures())):
        made = from_meta_dataset(dataset)
        assert made.class_names == ("3", "5", "9") and list(made.items) == list(range(36))
        assert [made.rows_of(label).tolist() for label in range(3)] == [ROWS_OF[3], ROWS_OF[5], ROWS_OF[9]]


def test_a_taskset_as_episodes(l2l: Any) -> None:
    random.seed(0)
    tasks = taskset(l2l, num_tasks=6)
    made, episodes = from_taskset(tasks, shots=2)
    assert len(episodes) == 6
    for i, episode in enumerate(episodes):
        assert episode.query_labels is not None and len(episode.support) == 4 and len(episode.query) == 6
        for part, labels in ((episode.support, episode.support_labels), (episode.query, episode.query_labels)):
            for row, label in zip(part.tolist(), labels.tolist(), strict=True):
                assert str(LABELS[row]) == episode.class_names[label]
        data, task_labels = tasks[i]  # the task set keeps the tasks we have read
        (support, _), (query, _) = l2l.data.partition_task(data, task_labels, shots=2)
        assert set(support[:, 0, 0].int().tolist()) == set(episode.support.tolist())
        assert set(query[:, 0, 0].int().tolist()) == set(episode.query.tolist())
    assert made.class_names == ("3", "5", "9")


def test_an_endless_taskset_needs_a_number(l2l: Any) -> None:
    random.seed(0)
    assert len(from_taskset(taskset(l2l), shots=2, tasks=4)[1]) == 4
    for settings, shots, count in (({}, 2, None), ({"num_tasks": 3}, 2, 4), ({"num_tasks": 3}, 0, None)):
        with pytest.raises(UsageError, match="from_taskset takes"):
            from_taskset(taskset(l2l, **settings), shots=shots, tasks=count)
    with pytest.raises(DataError, match="5 pictures, 5 shots leave none"):
        from_taskset(taskset(l2l, num_tasks=3), shots=5)


def test_without_learn2learn_the_error_says_how_to_install_it() -> None:
    code = (
        "import sys; sys.modules['learn2learn'] = None; sys.modules['learn2learn.data'] = None\n"
        "from episodes.interop import from_meta_dataset\nfrom_meta_dataset([])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert (
        done.returncode == 1 and "UsageError: learn2learn is not installed" in done.stderr and "cython" in done.stderr
    )
