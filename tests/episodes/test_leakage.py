"""Leakage guard: shared names, and pictures that are equal by content."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from episodes import DataError, Episode, ImageTable, read_class_folders
from episodes.leakage import SharedClasses, identical_pictures, shared_class_names, shared_within_tasks

MakeTree = Callable[..., Path]


def two_tables(make_tree: MakeTree) -> tuple[ImageTable, ImageTable]:
    first = make_tree("a/1.png", "a/2.png", "b/3.png", root="first")
    second = make_tree("b/1.png", "c/x.png", "c/y.png", "c/empty.png", root="second")
    (second / "c" / "x.png").write_bytes((first / "a" / "2.png").read_bytes())
    (second / "c" / "y.png").write_bytes((first / "a" / "2.png").read_bytes())
    (second / "c" / "empty.png").write_bytes(b"")
    (first / "a" / "copy.png").write_bytes((first / "b" / "3.png").read_bytes())  # within one table: not meant
    (first / "a" / "empty.png").write_bytes(b"")
    (first / "a" / "gone.png").symlink_to(first / "nothing.png")
    return read_class_folders(first), read_class_folders(second)


def test_shared_class_names(make_tree: MakeTree) -> None:
    first, second = two_tables(make_tree)
    shared = shared_class_names(first, second)
    assert list(shared) == ["b"] and len(shared) == 1 and shared.summary() == "1 class name is shared: b"
    assert not shared_class_names(first) and shared_class_names(first).summary() == ""
    both = shared_class_names(second, first, second)
    assert list(both) == ["b", "c"] and both.summary() == "2 class names are shared: b, c"
    assert SharedClasses(tuple("abcd")).summary() == "4 class names are shared: a, b, c, …"


def test_identical_pictures_equal_a_plain_comparison(make_tree: MakeTree) -> None:
    first, second = two_tables(make_tree)
    found = identical_pictures(first, second)
    assert len(found) == 1
    (same,) = found
    assert {Path(path).name for path in same.paths} == {"2.png", "x.png", "y.png"}
    tables = (first, second)
    assert [tables[t].paths([row])[0] for t, row in same.places] == list(same.paths)
    pairs = {
        (a, b)
        for a in first.paths() for b in second.paths()
        if Path(a).exists() and Path(a).read_bytes() == Path(b).read_bytes() != b""
    }  # fmt: skip
    assert {(a, b) for a in same.paths[:1] for b in same.paths[1:]} == pairs
    assert found.summary() == f"1 picture is identical: {' = '.join(same.paths)}" and not identical_pictures(first)
    copied = Path(second.paths()[0]).with_name("more.png")
    copied.write_bytes(Path(first.paths()[0]).read_bytes())
    again = identical_pictures(first, read_class_folders(copied.parents[1]))
    assert again.summary().startswith("2 pictures are identical: ")


def test_support_and_query_of_one_task(make_tree: MakeTree) -> None:
    root = make_tree("1.png", "2.png", "3.png", "4.png")
    (root / "3.png").write_bytes((root / "1.png").read_bytes())
    table = ImageTable([root / f"{i}.png" for i in (1, 2, 3, 4)], np.zeros(4, int), ("all",))

    def task(name: str, support: list[int], query: list[int]) -> Episode:
        return Episode(name, ("a",), np.array(support), np.zeros(len(support), int), np.array(query))

    episodes = [task("apart", [0, 1], [3]), task("leaks", [0, 1], [2, 3]), task("twice", [0, 2], [3])]
    found = shared_within_tasks(table, episodes)
    assert [(p.task, Path(p.support[0]).name, Path(p.query[0]).name) for p in found] == [("leaks", "1.png", "3.png")]
    assert found.summary() == (
        f"1 picture is support and query of one task, in 1 task: {root / '1.png'} = {root / '3.png'}"
    )
    assert not shared_within_tasks(table, episodes[:1])
    again = shared_within_tasks(table, [*episodes, task("leaks too", [0, 1], [2])])
    assert again.summary().startswith("2 pictures are support and query of one task, in 2 tasks: ")


def test_tables_without_files_are_refused() -> None:
    with pytest.raises(DataError, match="pictures on disk"):
        identical_pictures(ImageTable([0], np.zeros(1, int), ("a",)))
