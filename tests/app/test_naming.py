"""Names that folders and files can have, and chosen pictures as a task that the ordinary engine reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from episodes import read_task_directory
from episodes.errors import UsageError
from fewshot.app.naming import checked_class, checked_picture, distinct, example, write_task


@pytest.mark.parametrize("copy", [True, False])
def test_the_example_is_a_task_of_five_classes(tmp_path: Path, copy: bool) -> None:
    classes, queries = example(tmp_path)
    files = {name: [(path.name, path) for path in paths] for name, paths in classes.items()}
    asked = [(path.name, path) for path in queries]
    places = write_task(tmp_path / "out" / "testB" / "task1", files, [*asked, asked[0]], copy=copy)
    table, episodes = read_task_directory(tmp_path / "out")
    assert len(episodes) == 1 and set(episodes[0].class_names) == set(classes)
    assert {len(paths) for paths in classes.values()} == {2}
    assert sorted(places) == sorted(table.paths()) and sorted(places.values()) == list(range(21))
    stem, suffix = asked[0][0].rsplit(".", 1)
    names = {table.image_name(row) for row in episodes[0].query}
    assert names == {name for name, _ in asked} | {f"{stem} (2).{suffix}"}
    assert all(Path(path).is_symlink() != copy for path in places)


@pytest.mark.parametrize(
    ("classes", "queries", "message"),
    [
        ({"a": 1, "b": 0}, 1, "1 class has pictures: it takes two"),
        ({"a": 1, "b": 1}, 0, "no pictures to name"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, classes: dict[str, int], queries: int, message: str) -> None:
    file = ("x.png", tmp_path / "x.png")
    with pytest.raises(UsageError, match=message):
        write_task(tmp_path / "task", {name: [file] * n for name, n in classes.items()}, [file] * queries, copy=False)


@pytest.mark.parametrize("name", ["", "  ", ".hidden", "a/b", "a\\b", "a\0b", "a\nb", "x" * 201, "日" * 100])
def test_names_that_no_class_folder_can_have_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a class"):
        checked_class(name)
    assert checked_class("  red oak ") == "red oak"


@pytest.mark.parametrize("name", ["", "notes.txt", ".x.png", "png", "a\n.png", "x" * 250 + ".png"])
def test_names_that_are_no_picture_s_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        checked_picture(name)


def test_folders_before_a_name_are_left_out() -> None:
    assert checked_picture("../../etc/cat.JPG") == "cat.JPG" and checked_picture("C:\\pictures\\кот.png") == "кот.png"


def test_a_name_that_comes_again_gets_a_number() -> None:
    assert distinct(["a.png", "b.png", "a.png", "a (2).png", "a.png"]) == [
        "a.png", "b.png", "a (2).png", "a (2) (2).png", "a (3).png",
    ]  # fmt: skip
