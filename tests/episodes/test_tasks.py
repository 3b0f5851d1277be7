"""Task directories: reading, writing, truth, and that score equals evaluate."""

import csv
import itertools
import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from episodes import (
    OUTSIDE,
    DataError,
    Episode,
    EpisodeBatch,
    EpisodeSampler,
    ImageTable,
    evaluate,
    read_class_folders,
    read_task_directory,
    score_predictions,
    write_predictions,
    write_task_directory,
)

MakeTree = Callable[..., Path]
Forbidden = Callable[[str], AbstractContextManager[None]]

TASKS = (
    "testB/task10/support/b/1.png", "testB/task10/support/a/1.png", "testB/task10/query/x.png",
    "testB/task2/support/c10/1.png", "testB/task2/support/c2/10.png", "testB/task2/support/c2/9.png",
    "testB/task2/query/q10.png", "testB/task2/query/q9.png",
)  # fmt: skip


def names(table: ImageTable, rows: Any) -> list[str]:
    return [Path(path).name for path in table.paths(rows.tolist())]


def test_natural_order_everywhere(make_tree: MakeTree) -> None:
    root = make_tree(*TASKS)
    table, episodes = read_task_directory(root)
    assert [episode.name for episode in episodes] == ["task2", "task10"]
    first, second = episodes
    assert first.class_names == ("c2", "c10") and first.support_labels.tolist() == [0, 0, 1]
    assert names(table, first.support) == ["9.png", "10.png", "1.png"]
    assert names(table, first.query) == ["q9.png", "q10.png"] and first.query_labels is None
    assert second.class_names == ("a", "b")
    assert table.class_names == ("a", "b", "c2", "c10") and table.labels.tolist() == [2, 2, 3, -1, -1, 0, 1, -1]
    assert sorted(table.paths()) == sorted(str(root / name) for name in TASKS)


def test_three_ways_to_name_the_directory(make_tree: MakeTree, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_tree(*TASKS)
    expected = {str(path) for path in root.rglob("*.png")}
    for given in (root, root / "testB"):
        table, episodes = read_task_directory(given)
        assert set(table.paths()) == expected and [e.name for e in episodes] == ["task2", "task10"]
    monkeypatch.chdir(root / "testB" / "task2")
    for one in (root / "testB" / "task2", Path(".")):
        table, episodes = read_task_directory(one)
        assert [e.name for e in episodes] == ["task2"] and len(table) == 5


def test_bad_input_is_passed_over_and_counted(make_tree: MakeTree) -> None:
    root = make_tree(
        *TASKS, "testB/notes/x.txt", "testB/task2/support/empty/", "testB/task2/support/loose.png",
        "testB/task2/query/Thumbs.db", "testB/task2/query/deeper/1.png", "testB/task2/query/.q.png",
    )  # fmt: skip
    table, episodes = read_task_directory(root)
    assert episodes[0].class_names == ("c2", "c10") and len(table) == len(TASKS)
    assert table.passed_over.counts == {
        "folders beside the tasks": 1, "without a picture suffix": 1, "hidden": 1, "sub-folders of query/": 1,
        "pictures outside a class folder": 1, "classes without a support picture": 1,
    }  # fmt: skip


def test_a_task_without_usable_class_keeps_its_rows(make_tree: MakeTree) -> None:
    root = make_tree(
        "task1/support/a/", "task1/query/1.png", "task1/query/2.png", "task2/support/a/1.png", "task2/query/1.png"
    )
    table, episodes = read_task_directory(root)
    assert episodes[0].class_names == () and len(episodes[0].query) == 2

    def score(batch: EpisodeBatch) -> np.ndarray[Any, Any]:
        return np.zeros((*batch.query.shape, batch.class_ids.shape[1]))

    assert evaluate(episodes, score).to_frame(table)["label"].tolist() == ["", "", "a"]


GOOD = ("task1/support/a/1.png", "task1/support/b/1.png", "task1/query/1.png", "task1/query/2.png")


@pytest.mark.parametrize(
    ("tree", "rows", "message"),
    [
        (("task2/query/1.png",), 1, r"task2 has no folder support/.*get no answer"),
        (("task2/support", "task2/query/1.png"), 1, r"task2 has something else than a folder as support"),
        (
            ("task2/support/", "task2/query/1.png"),
            1,
            r"task2 has no picture in support/<class>/.*found 0 class folders",
        ),
        (
            ("task2/support/a/", "task2/support/x.png", "task2/query/1.png"),
            1,
            r"found 1 class folder .* and 1 picture outside",
        ),
        (("task2/support/a/1.txt", "task2/query/1.png"), 1, r"task2 has no picture in support/<class>/"),
        (("task2/support/a/1.png",), 0, r"task2 has no folder query/.*no rows"),
        (("task2/support/a/1.png", "task2/query"), 0, r"task2 has something else than a folder as query"),
        (("task2/support/a/1.png", "task2/query/"), 0, r"task2 has no pictures in query/"),
        (
            ("task2/support/a/1.png", "task2/query/1.txt", "task2/query/deeper/1.png"),
            0,
            r"task2 has no pictures in query/",
        ),
        (("task2/support", "task2/query/"), 0, r"task2 has no pictures in query/"),
        (("task2/",), 0, r"task2 has neither support/ nor query/"),
        (("task2/x/1.png",), 0, r"task2 has neither support/ nor query/"),
    ],
)
def test_a_broken_task_is_named_once_and_costs_no_other_its_rows(
    make_tree: MakeTree, tree: tuple[str, ...], rows: int, message: str
) -> None:
    table, episodes = read_task_directory(make_tree(*GOOD, *tree, "task3/support/a/1.png", "task3/query/9.png"))
    (fault,) = table.passed_over.faults
    assert re.search(message, fault), fault
    frame = evaluate(episodes, lambda batch: np.zeros((*batch.query.shape, batch.class_ids.shape[1]))).to_frame(table)
    assert frame["task"].tolist() == ["task1"] * 2 + ["task2"] * rows + ["task3"]
    assert frame["label"].tolist() == ["a"] * 2 + [""] * rows + ["a"]


def test_a_task_that_links_to_its_parent_ends_nothing(make_tree: MakeTree) -> None:
    root = make_tree(*GOOD)
    (root / "task2").symlink_to(root)
    (root / "task1" / "support" / "c").symlink_to(root / "task1")
    table, episodes = read_task_directory(root)
    assert [e.name for e in episodes] == ["task1"] and episodes[0].class_names == ("a", "b")
    assert [re.search("task2 has neither", fault) is not None for fault in table.passed_over.faults] == [True]


def test_a_class_folder_that_cannot_be_listed_is_named_and_costs_its_class_alone(
    make_tree: MakeTree, forbidden: Forbidden
) -> None:
    root = make_tree(*GOOD, "task1/support/c/1.png")
    with forbidden("b"):
        table, episodes = read_task_directory(root)
    folder = root / "task1" / "support" / "b"
    assert table.passed_over.faults == (
        f"cannot list the folder {folder}: Permission denied; check its permissions. The class cannot be predicted",
    )
    assert episodes[0].class_names == ("a", "c") and len(episodes[0].query) == 2


def test_what_else_lies_in_support_is_counted_and_ends_nothing(make_tree: MakeTree) -> None:
    table, episodes = read_task_directory(make_tree(*GOOD, "task1/support/x.txt", "task1/support/.a.png"))
    assert table.passed_over.counts == {"without a picture suffix": 1, "hidden": 1} and not table.passed_over.faults
    assert episodes[0].class_names == ("a", "b")


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (("task1/support/a/1.png",), r"holds no picture to name: task .*task1 has no folder query/"),
        (("task1/x/",), r"holds no tasks; .*task1 has neither support/ nor query/"),
        (("a/1.png",), r"holds no tasks; expected the folder that holds testB/"),
    ],
)
def test_a_folder_without_anything_to_name_is_refused(make_tree: MakeTree, tree: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_task_directory(make_tree(*tree))


TRUTH = "task,image,label\ntask10,x.png,b\ntask2,q9.png,c10\ntask2,q10.png,c2\n"


@pytest.mark.parametrize("place", ["truth.csv", "testB/truth.csv"])
def test_truth_is_found_beside(make_tree: MakeTree, place: str) -> None:
    root = make_tree(*TASKS)
    (root / place).write_text(TRUTH)
    for given, expected in ((root, [[1, 0], [1]]), (root / "testB", [[1, 0], [1]]), (root / "testB" / "task10", [[1]])):
        _, episodes = read_task_directory(given)
        assert [None if e.query_labels is None else e.query_labels.tolist() for e in episodes] == expected
    assert all(e.query_labels is None for e in read_task_directory(root, find_truth=False)[1])


def test_truth_of_broken_tasks(make_tree: MakeTree) -> None:
    """A task that lost its support keeps its queries, outside of every class; one that lost its queries has no say."""
    root = make_tree(*TASKS, "testB/task11/support/a/1.png", "testB/task12/query/1.png")
    (root / "truth.csv").write_text(TRUTH + "task11,1.png,a\ntask12,1.png,a\n")
    _, episodes = read_task_directory(root)
    labels = {e.name: e.query_labels.tolist() for e in episodes if e.query_labels is not None}
    assert labels == {"task2": [1, 0], "task10": [1], "task12": [OUTSIDE]}


def test_truth_elsewhere_and_a_class_without_pictures(make_tree: MakeTree, tmp_path: Path) -> None:
    root = make_tree(*TASKS, "testB/task2/support/empty/")
    truth = tmp_path / "elsewhere.csv"
    truth.write_text(TRUTH.replace("q9.png,c10", "q9.png,empty"))
    labels = read_task_directory(root, truth)[1][0].query_labels
    assert labels is not None and labels.tolist() == [OUTSIDE, 0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("task2,q9.png,c10\n", "", "no row for 1 query picture: task2/q9.png"),
        ("q9.png,c10", "q9.png,zebra", "task2/q9.png has the label 'zebra', which is no class folder"),
        ("q9.png,c10", "q9.png,c10\ntask2,q8.png,c2", "names 1 query picture that is not there: task2/q8.png"),
        ("task10,x.png,b", "task10,x.png,b\ntask7,x.png,b", "names 1 task that is not there: task7"),
    ],
)
def test_truth_that_does_not_fit_is_refused(make_tree: MakeTree, old: str, new: str, message: str) -> None:
    root = make_tree(*TASKS)
    (root / "truth.csv").write_text(TRUTH.replace(old, new))
    with pytest.raises(DataError, match=message):
        read_task_directory(root)


@pytest.fixture
def written(make_tree: MakeTree, tmp_path: Path) -> tuple[ImageTable, EpisodeSampler, Path]:
    tree = make_tree(*(f"Greek/c{c}/{c}_{i}.PNG" for c in range(6) for i in range(9)))
    table = read_class_folders(tree, nested=True)
    sampler = EpisodeSampler(table, ways=3, shots=2, queries=4, episodes=3)
    return table, sampler, write_task_directory(table, sampler, tmp_path / "new" / "out")


def test_writing_comes_back_as_the_same_tasks(written: tuple[ImageTable, EpisodeSampler, Path]) -> None:
    table, sampler, root = written
    read_table, read = read_task_directory(root)
    assert [e.name for e in read] == ["task1", "task2", "task3"]

    def contents(of: ImageTable, episode: Episode, part: str) -> set[tuple[str, str]]:
        labels = episode.support_labels if part == "support" else episode.query_labels
        assert labels is not None
        pairs = zip(of.paths(getattr(episode, part).tolist()), labels.tolist(), strict=True)
        return {(Path(path).read_text(), episode.class_names[label].replace("%2F", "/")) for path, label in pairs}

    for original, again in zip(sampler, read, strict=True):
        for part in ("support", "query"):
            assert contents(table, original, part) == contents(read_table, again, part)


def test_query_names_order_and_times_tell_nothing(written: tuple[ImageTable, EpisodeSampler, Path]) -> None:
    root = written[2]
    with open(root / "truth.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 36
    for task in ("task1", "task2", "task3"):
        of_task = [row for row in rows if row["task"] == task]
        assert [row["image"] for row in of_task] == [f"{i:03d}.png" for i in range(1, 13)]
        labels = [row["label"] for row in of_task]
        assert labels != sorted(labels) and len(set(labels)) == 3
        changes = sum(a != b for a, b in itertools.pairwise(labels))
        assert changes > 3  # three classes in blocks would change twice
        files = list((root / "testB" / task / "query").iterdir())
        assert len({path.stat().st_mtime for path in files}) == 1


def test_writing_twice_gives_the_same_and_never_overwrites(
    written: tuple[ImageTable, EpisodeSampler, Path], tmp_path: Path
) -> None:
    table, sampler, root = written
    (tmp_path / "again").mkdir()  # an empty folder may be filled
    again = write_task_directory(table, sampler, tmp_path / "again")
    assert (root / "truth.csv").read_bytes() == (again / "truth.csv").read_bytes()
    other = write_task_directory(table, sampler, tmp_path / "other", seed=1)
    assert (root / "truth.csv").read_bytes() != (other / "truth.csv").read_bytes()
    with pytest.raises(DataError, match="already holds something"):
        write_task_directory(table, sampler, root)


def test_a_failure_leaves_nothing(written: tuple[ImageTable, EpisodeSampler, Path], tmp_path: Path) -> None:
    table, sampler, _ = written
    before = sorted(os.listdir(tmp_path))
    hidden = Episode("h", ("a",), np.array([0]), np.array([0]), np.array([1]), None)
    with pytest.raises(DataError, match="episode h does not tell"):
        write_task_directory(table, [sampler[0], hidden], tmp_path / "bad")
    os.unlink(table.paths([int(sampler[0].query[0])])[0])
    with pytest.raises(DataError, match="cannot write the tasks"):
        write_task_directory(table, sampler, tmp_path / "bad")
    with pytest.raises(DataError, match="at least one"):
        write_task_directory(table, [], tmp_path / "bad")
    assert sorted(os.listdir(tmp_path)) == before


def test_pictures_of_one_name_do_not_overwrite_each_other(make_tree: MakeTree, tmp_path: Path) -> None:
    root = make_tree("x/1.png", "y/1.png", "z/1.png")
    table = ImageTable([root / n / "1.png" for n in "xyz"], np.zeros(3, int), ("all",))
    episode = Episode("e", ("a",), np.array([0, 1]), np.array([0, 0]), np.array([2]), np.array([0]))
    again, _ = read_task_directory(write_task_directory(table, [episode], tmp_path / "out"))
    assert sorted(Path(path).read_text() for path in again.paths()) == ["x/1.png", "y/1.png", "z/1.png"]


def test_score_equals_evaluate_to_the_last_digit(
    written: tuple[ImageTable, EpisodeSampler, Path], tmp_path: Path
) -> None:
    root = written[2]
    table, episodes = read_task_directory(root)

    def score(batch: EpisodeBatch) -> np.ndarray[Any, Any]:
        raw = np.sin(batch.query[:, :, None] * 12.9898 + np.arange(3) * 78.233) - 2
        raw[batch.query % 7 == 0] = np.nan
        return np.asarray(raw)

    results = evaluate(episodes, score)
    write_predictions(results.to_frame(table), tmp_path / "result.csv")
    scored = score_predictions(tmp_path / "result.csv", root / "truth.csv")
    assert (scored.accuracy, scored.ci95) == (results.mean, results.ci95) and 0 < scored.accuracy < 1
    assert list(scored.per_task.values()) == results.accuracy.tolist()


def test_written_truth_can_be_defused_and_a_vanished_picture_is_named(make_tree: MakeTree, tmp_path: Path) -> None:
    root = make_tree(*(f"{name}/{number}.png" for name in ("=a", "b") for number in range(3)))
    table = read_class_folders(root)
    sampler = EpisodeSampler(table, ways=2, shots=1, queries=1, episodes=2)
    write_task_directory(table, sampler, tmp_path / "tasks", defuse_formulas=True)
    with (tmp_path / "tasks" / "truth.csv").open(newline="") as stream:
        labels = [row["label"] for row in csv.DictReader(stream)]
    assert sorted(labels) == ["'=a", "'=a", "b", "b"]
    for path in root.rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match=r"cannot write the tasks: .*data/.*\.png: No such file"):
        write_task_directory(table, sampler, tmp_path / "more")
    assert not (tmp_path / "more").exists() and not list(tmp_path.glob(".more*"))


def test_a_truth_without_one_of_the_tasks_is_refused(make_tree: MakeTree) -> None:
    root = make_tree(*TASKS)
    (root / "truth.csv").write_text("task,image,label\ntask2,q9.png,c2\ntask2,q10.png,c10\n")
    with pytest.raises(DataError, match=r"x\.png"):
        read_task_directory(root)
