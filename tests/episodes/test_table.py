"""ImageTable and PathList."""

import pickle
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from episodes import DataError, ImageTable, PathList

MakeTable = Callable[[Sequence[int]], ImageTable]


def shuffled_table() -> ImageTable:
    labels = np.random.default_rng(0).integers(-1, 4, 60)
    return ImageTable([f"item{i}" for i in range(60)], labels, ("a", "b", "c", "d"))


def test_counts_and_rows_match_a_plain_loop() -> None:
    table = shuffled_table()
    for label in range(4):
        rows = [row for row, value in enumerate(table.labels.tolist()) if value == label]
        assert table.rows_of(label).tolist() == rows
        assert table.counts[label] == len(rows)
    assert table.labels.dtype == np.int32 and table.counts.dtype == np.int64


def test_rows_of_sorted_labels_with_unknown_ones_first() -> None:
    table = ImageTable(range(7), np.array([-1, -1, 0, 0, 2, 2, 2]), ("a", "b", "c"))
    assert [table.rows_of(label).tolist() for label in range(3)] == [[2, 3], [], [4, 5, 6]]


def test_rows_of_an_empty_last_class() -> None:
    table = ImageTable(range(2), np.array([0, 0]), ("a", "b"))
    assert table.rows_of(1).tolist() == [] and table.counts.tolist() == [2, 0]


def test_select_classes_relabels_in_the_given_order() -> None:
    table = shuffled_table()
    chosen = table.select_classes([3, 1])
    assert chosen.class_names == ("d", "b")
    expected = [
        (item, {3: 0, 1: 1}[v]) for item, v in zip(table.items, table.labels.tolist(), strict=True) if v in (3, 1)
    ]
    assert list(zip(chosen.items, chosen.labels.tolist(), strict=True)) == expected


def test_select_rows_keeps_the_classes() -> None:
    chosen = shuffled_table().select_rows([5, 2])
    assert list(chosen.items) == ["item5", "item2"] and chosen.class_names == ("a", "b", "c", "d")


@pytest.mark.parametrize("labels", [[], [0, 0], [4], [-1]])
def test_select_classes_refuses(labels: list[int]) -> None:
    with pytest.raises(DataError):
        shuffled_table().select_classes(labels)


@pytest.mark.parametrize(
    ("items", "labels", "names", "message"),
    [
        ([], [], ("a",), "at least one picture"),
        ([1], [0, 0], ("a",), "one label an item"),
        ([1], [1], ("a",), "lie in -1…0"),
        ([1], [-2], ("a",), "lie in -1…0"),
        ([1], [0.5], ("a",), "integers"),
        ([1], [0], ("a", "a"), "twice"),
    ],
)
def test_table_refuses(items: list[int], labels: list[float], names: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        ImageTable(items, np.array(labels), names)


def path_list() -> PathList:
    return PathList(["x/a", "x/b"], [0, 0, 1], ["1.png", "2.png", "1.png"])


def test_path_list_is_a_sequence_of_paths() -> None:
    paths = path_list()
    expected = [Path("x/a/1.png"), Path("x/a/2.png"), Path("x/b/1.png")]
    assert list(paths) == expected and [paths[i] for i in range(-3, 3)] == expected * 2
    assert list(paths[1:]) == expected[1:] and list(paths[::-1]) == expected[::-1]
    assert paths.strings() == [str(path) for path in expected] and paths.string(np.int64(2)) == str(expected[2])  # type: ignore[arg-type]
    assert list(paths.take(np.array([2, 0]))) == [expected[2], expected[0]]
    assert list(pickle.loads(pickle.dumps(paths))) == expected
    with pytest.raises(IndexError):
        paths[3]


def test_a_picture_takes_well_under_a_kilobyte() -> None:
    paths = PathList(["f" * 60], np.zeros(10_000, np.int32), [f"picture_{i:08d}.jpg" for i in range(10_000)])
    size = sum(map(sys.getsizeof, paths.names)) + sys.getsizeof(paths.names) + paths.folder_of.nbytes
    assert size / len(paths) < 150


def test_paths_and_names() -> None:
    table = ImageTable(path_list(), np.zeros(3, int), ("a",))
    assert table.paths([2]) == [str(Path("x/b/1.png"))] and table.image_name(1) == "2.png"
    mixed = ImageTable([Path("q/z.png"), "s.png"], np.zeros(2, int), ("a",))
    assert mixed.paths() == [str(Path("q/z.png")), "s.png"] and mixed.image_name(0) == "z.png"
    with pytest.raises(DataError, match="not a path"):
        ImageTable([3], np.zeros(1, int), ("a",)).paths()
