"""learn2learn, both ways; skipped where it is not installed."""

import configparser
import itertools
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from episodes import DataError, EpisodeSampler, ImageTable, UsageError, install_learn2learn, read_class_folders
from episodes.interop import (
    from_meta_dataset,
    from_taskset,
    import_learn2learn,
    to_meta_dataset,
    to_taskset,
    to_tasksets,
)

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def l2l() -> Any:
    try:
        return import_learn2learn()
    except UsageError as error:
        pytest.skip(str(error))


ROOT = Path(__file__).parents[2]
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


def closed(item: Any) -> Any:
    raise AssertionError(f"{item} was opened")


def test_a_sampler_as_a_taskset(l2l: Any) -> None:
    """Shots and queries of every size: learn2learn's own division finds the sampler's support and query, in its order."""
    for shots, queries in ((1, 1), (2, 4), (5, 3)):
        sampler = EpisodeSampler(table(), ways=3, shots=shots, queries=queries, episodes=4, seed=shots)
        tasks = to_taskset(sampler, load=Pictures().__getitem__)
        assert isinstance(tasks, l2l.data.Taskset) and len(tasks) == tasks.num_tasks == 4
        for number in (2, 0, 3, 1):
            data, labels = tasks[number]
            divided = l2l.data.partition_task(data, labels, shots=shots)
            episode = sampler[number]
            for (pictures, found), rows, expected in zip(
                divided,
                (episode.support, episode.query),
                (episode.support_labels, episode.query_labels),
                strict=True,
            ):
                assert pictures[:, 0, 0].int().tolist() == rows.tolist() and found.tolist() == expected.tolist()
        assert tasks[0][1].tolist() == sorted(
            tasks[0][1].tolist()
        )  # class after class, as their prototypes' example reads it
        assert [task[1].tolist() for task in tasks] == [tasks[i][1].tolist() for i in range(4)]


def test_there_and_back_again(l2l: Any) -> None:
    sampler = EpisodeSampler(table(), ways=2, shots=3, queries=2, episodes=5)
    made, episodes = from_taskset(to_taskset(sampler, load=closed), shots=3)
    assert made.class_names == ("0", "1", "2")
    for episode, ours in zip(episodes, sampler, strict=True):
        for part in ("support", "support_labels", "query", "query_labels"):
            assert getattr(episode, part).tolist() == getattr(ours, part).tolist()


def test_tasks_of_any_size_in_any_order(l2l: Any) -> None:
    """Ways and shots from ranges, asked for here and there: what is drawn together is cut where the sampler cuts it."""
    sampler = EpisodeSampler(table(), ways=(2, 3), shots=(1, 4), queries=2, episodes=150, seed=3)
    tasks = to_taskset(sampler, load=closed)
    for number in (149, 0, 63, 64, 70, 1):
        episode = sampler[number]
        assert episode.query_labels is not None
        by_class = [
            [*episode.support[episode.support_labels == i].tolist(), *episode.query[episode.query_labels == i].tolist()]
            for i in range(len(episode.class_names))
        ]
        assert [each.index for each in tasks.describe(number)] == list(itertools.chain(*by_class))
    assert len({len(sampler[number].support) for number in (149, 0, 63, 64, 70, 1)}) > 1
    for number in range(3):
        rows = [
            [each.index for each in described]
            for described in (tasks.sample_task_description(), tasks.describe(number))
        ]
        assert rows[0] == rows[1]
    assert not tasks.sampled_descriptions  # as learn2learn's, those of tasks[i] alone are kept


def squares(root: Path, classes: int = 3, pictures: int = 4) -> Path:
    """Class folders of 6 x 5 pictures whose red tells their number."""
    from PIL import Image

    for name in range(classes):
        (root / f"class{name}").mkdir(parents=True)
        for number in range(pictures):
            Image.new("RGB", (6, 5), (10 * number, 0, 0)).save(root / f"class{name}" / f"{number}.png")
    return root


def scribble(image: Any) -> Any:
    """The picture's red, which it spoils."""
    found = torch.tensor(image.getpixel((0, 0))[0])
    image.paste((200, 0, 0), (0, 0, 6, 5))
    return found


def test_pictures_are_decoded_once_where_there_is_room(l2l: Any, tmp_path: Path) -> None:
    """What was seen is given again when its file is gone, unchanged by what a transform did to it; and no more is kept than allowed."""
    folders = read_class_folders(squares(tmp_path / "all"))
    sampler = EpisodeSampler(folders, ways=3, shots=2, queries=2, episodes=2)

    tasks, none, few = (to_taskset(sampler, scribble, keep=keep) for keep in (1 << 20, 0, 5 * 90 + 89))
    first = tasks[0][0].tolist()
    assert first == none[0][0].tolist() == few[0][0].tolist() and set(first) == {0, 10, 20, 30}
    sent = pickle.loads(pickle.dumps(tasks))
    for path in folders.paths():
        Path(path).unlink()
    assert tasks[0][0].tolist() == first and sorted(tasks[1][0].tolist()) == sorted(first)
    for other in (none, sent):
        with pytest.raises(DataError, match="cannot be read"):
            other[0]
    rows = [each.index for each in few.sampled_descriptions[0]]
    assert [few.dataset[row][0] for row in rows[:5]] == first[:5]
    with pytest.raises(DataError, match="cannot be read"):
        few.dataset[rows[5]]


def test_task_sets_of_three_folders_as_a_benchmark(l2l: Any, tmp_path: Path) -> None:
    """The call takes get_tasksets' place: its names, and half of each class's samples are support."""
    folders = [squares(tmp_path / name, classes, 6) for name, classes in (("base", 5), ("val", 3), ("novel", 4))]
    made = to_tasksets(*folders, train_ways=4, train_samples=5, test_ways=3, test_samples=2, num_tasks=7)
    assert type(made) is type(l2l.vision.benchmarks.BenchmarkTasksets(1, 2, 3)) and len(made.train) == 7
    train, test = made.train.sampler, made.test.sampler
    assert (train.ways, train.shots, train.queries) == ((4, 4), (2, 2), 3) and test.shots == (1, 1)
    assert made.train[6][0].shape == (20, 3, 5, 6) and made.validation[0][1].tolist() == [0, 0, 1, 1, 2, 2]
    with pytest.raises(UsageError, match="at least 2 samples"):
        to_tasksets(*folders, test_samples=1)


def test_no_picture_is_opened_before_its_task_is_asked_for(l2l: Any, tmp_path: Path) -> None:
    from PIL import Image

    folders = read_class_folders(squares(tmp_path))
    sampler = EpisodeSampler(folders, ways=3, shots=1, queries=3, episodes=2)
    (tmp_path / "class1" / "2.png").write_bytes(b"broken")
    tasks = to_taskset(sampler)
    dataset = tasks.dataset
    assert dataset.labels == [0, 1, 2] and dict(dataset.labels_to_indices)[1] == folders.rows_of(1).tolist()
    assert all(dataset.indices_to_labels[row] == folders.labels[row] for row in range(12)) and len(dataset) == 12
    with pytest.raises(DataError, match=r"2\.png: cannot be read"):
        tasks[0]
    Image.new("L", (6, 5), 255).save(tmp_path / "class1" / "2.png")
    data, _ = tasks[0]
    assert data.shape == (12, 3, 5, 6) and data.dtype == torch.float32 and float(data.max()) == 1
    rows = [description.index for description in tasks.sampled_descriptions[0]]
    reds = [255 if row == folders.rows_of(1)[2] else 10 * (row % 4) for row in rows]
    assert (255 * data[:, 0, 0, 0]).round().int().tolist() == reds
    assert to_taskset(sampler, transform=lambda image: torch.tensor(image.size))[0][0].tolist() == [[6, 5]] * 12


def test_task_transforms_of_the_user(l2l: Any) -> None:
    """learn2learn's own, given and appended, and one of a user's making that turns whole classes, as its RandomClassRotation does."""
    transforms = l2l.data.transforms
    sampler = EpisodeSampler(table(), ways=2, shots=1, queries=2, episodes=3)

    def given(dataset: Any) -> list[Any]:
        return [transforms.LoadData(dataset), transforms.RemapLabels(dataset), transforms.ConsecutiveLabels(dataset)]

    random.seed(0)
    tasks = to_taskset(sampler, load=Pictures().__getitem__, task_transforms=given)
    data, labels = tasks[1]
    rows = data[:, 0, 0].int().tolist()
    assert sorted(rows) == sorted([*sampler[1].support.tolist(), *sampler[1].query.tolist()])
    classes = [int(table().labels[row]) for row in rows]
    assert classes == sorted(classes) and len(set(zip(classes, labels.tolist(), strict=True))) == 2

    def negative(description: Any) -> Any:
        for each in description:
            each.transforms.append(lambda pair: (-pair[0], pair[1]))
        return description

    appended = to_taskset(sampler, load=Pictures().__getitem__)
    plain = to_taskset(sampler, load=Pictures().__getitem__)[2]
    appended.task_transforms.append(negative)
    assert torch.equal(appended[2][0], -plain[0]) and appended[2][1].tolist() == plain[1].tolist()
    assert appended.sample_task_description() is appended.describe(0)  # what transforms drew stays as it is


def test_a_table_with_transforms_that_draw(l2l: Any) -> None:
    def draws(dataset: Any) -> list[Any]:
        transforms = l2l.data.transforms
        fused = transforms.FusedNWaysKShots(dataset, n=2, k=3)
        return [fused, transforms.LoadData(dataset), transforms.RemapLabels(dataset)]

    random.seed(0)
    tasks = to_taskset(table(), load=Pictures().__getitem__, task_transforms=draws, num_tasks=3)
    data, labels = tasks.sample()
    assert data.shape == (6, 2, 2) and labels.bincount().tolist() == [3, 3] and len(tasks) == 3
    with pytest.raises(UsageError, match="needs task_transforms"):
        to_taskset(table())
    with pytest.raises(UsageError, match="as many tasks as episodes, 600"):
        to_taskset(EpisodeSampler(table(), ways=2, queries=2), num_tasks=5)
    with pytest.raises(DataError, match="of the table's 2, 1 have none"):
        to_meta_dataset(ImageTable(range(2), np.array([0, -1]), ("a",)))


def test_a_loading_process_gets_the_task_set(l2l: Any) -> None:
    sampler = EpisodeSampler(table(), ways=2, shots=1, queries=2, episodes=3)
    tasks = to_taskset(sampler, load=Pictures().__getitem__)
    sent = pickle.loads(pickle.dumps(tasks))
    assert torch.equal(sent[2][0], tasks[2][0]) and isinstance(sent, l2l.data.Taskset)
    with pytest.raises(DataError, match="is not a path"):
        to_taskset(sampler)[0]


def test_a_vision_benchmark_of_learn2learn(l2l: Any, tmp_path: Path) -> None:
    """Its own `get_tasksets`, on a data set laid out as its download is."""
    from PIL import Image

    for split in ("train", "val", "test"):
        for name in ("apple", "bear", "cloud"):
            folder = tmp_path / "cifarfs" / "processed" / split / name
            folder.mkdir(parents=True)
            for number in range(6):
                Image.new("RGB", (4, 4), (number, 0, 0)).save(folder / f"{number}.png")
    random.seed(0)
    tasksets = l2l.vision.benchmarks.get_tasksets(
        "cifarfs", train_ways=2, train_samples=5, test_ways=3, test_samples=4, num_tasks=3, root=str(tmp_path)
    )
    for tasks, ways, samples in ((tasksets.train, 2, 5), (tasksets.test, 3, 4)):
        made, episodes = from_taskset(tasks, shots=2)
        assert len(made) == 18 and len(made.class_names) == 3 and len(episodes) == 3
        for number, episode in enumerate(episodes):
            (support, _), (query, _) = l2l.data.partition_task(*tasks[number], shots=2)
            for pictures, rows, count in ((support, episode.support, 2), (query, episode.query, samples - 2)):
                reds = [6 * int(made.labels[row]) + row % 6 for row in rows]
                assert reds == rows.tolist() and len(rows) == ways * count
                assert sorted((255 * pictures[:, 0, 0, 0]).round().int().tolist()) == sorted(row % 6 for row in rows)


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


def test_without_learn2learn_the_error_names_one_command() -> None:
    code = (
        "import sys; sys.modules['learn2learn'] = None; import numpy as np\n"
        "from episodes import ImageTable, UsageError\nfrom episodes.interop import from_meta_dataset, to_meta_dataset\n"
        "for call in (lambda: from_meta_dataset([]), lambda: to_meta_dataset(ImageTable([0], np.array([0]), ('a',)))):\n"
        "    try: call()\n    except UsageError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Install it with: python -m episodes.install_learn2learn\n") == 2


def test_learn2learn_is_imported_in_silence(l2l: Any) -> None:
    """Gym's notice and every warning included; what gym would tell others is left as it was. So is a plain import, as installed."""
    ours = (
        "from gym_notices.notices import notices\nimport importlib.metadata as m\nnotices[m.version('gym')] = 'LOUD'\n"
        "from episodes.interop import import_learn2learn\nimport_learn2learn()\nassert 'LOUD' in notices.values()"
    )
    for code in (ours, "import learn2learn"):
        done = subprocess.run([sys.executable, "-W", "default", "-c", code], capture_output=True, text=True, cwd=ROOT)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_command_installs_what_the_extra_of_that_name_lists() -> None:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    listed = parser["options.extras_require"]["learn2learn"].split()
    first, second = install_learn2learn.commands()
    assert set(listed) <= set(first) and f"learn2learn=={install_learn2learn.VERSION}" in second
    assert all(each[:4] == [sys.executable, "-m", "pip", "install"] for each in (first, second))
