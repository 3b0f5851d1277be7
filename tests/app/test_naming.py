"""Chosen pictures become a task that the ordinary engine reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from episodes import read_task_directory
from episodes.errors import UsageError
from fewshot.app.naming import answers, checked_name, example, write_task
from fewshot.classifiers import build_classifier
from fewshot.encoders import load_encoder
from fewshot.predict import predict


@pytest.fixture
def chosen(tmp_path: Path) -> tuple[dict[str, list[str]], list[str]]:
    return example(tmp_path)


def test_the_example_is_a_task_of_five_classes(chosen: tuple[dict[str, list[str]], list[str]], tmp_path: Path) -> None:
    classes, queries = chosen
    assert len(classes) == 5 and {len(paths) for paths in classes.values()} == {2} and len(set(queries)) == 10
    table, episodes = read_task_directory(write_task(tmp_path / "task", classes, queries))
    assert len(episodes) == 1 and set(episodes[0].class_names) == set(classes)
    assert len(table.items) == 20


def test_answers_are_predict_s_in_the_order_of_choice(
    chosen: tuple[dict[str, list[str]], list[str]], tmp_path: Path
) -> None:
    classes, queries = chosen
    queries = [*queries, str(tmp_path / "broken.png"), queries[0]]
    Path(queries[-2]).write_bytes(b"no picture")
    root = write_task(tmp_path / "task", classes, queries)
    prediction = predict(root, load_encoder("tiny"), build_classifier("prototype"))
    said = answers(prediction, queries)
    assert [path for path, _ in said] == queries
    assert said[-2][1] == "cannot be read" and said[-1][1] == said[0][1]
    right = sum(Path(path).name.rpartition("-")[0] == text.rsplit("  ")[0] for path, text in said)
    assert right >= 9  # of eleven that can be read; chance is two
    by_file = {row.image: (row.label, row.confidence) for row in prediction.frame.itertuples()}
    label, confidence = by_file[f"004-{Path(queries[3]).name}"]
    assert said[3][1] == f"{label}  {float(confidence):.0%}"


@pytest.mark.parametrize(
    ("classes", "queries", "message"),
    [
        ({"a": ["x.png"]}, ["y.png"], "at least two"),
        ({"a": ["x.png"], "b": ["x.png"]}, [], "no pictures to name"),
        ({"a": ["x.png"], "b": []}, ["x.png"], "'b' has no pictures"),
        ({"a": ["x.png"], "../b": ["x.png"]}, ["x.png"], "cannot be the name"),
        ({"a": ["x.png"], "b": ["x.txt"]}, ["x.png"], "no picture's suffix"),
    ],
)
def test_what_is_missing_is_said(
    tmp_path: Path, classes: dict[str, list[str]], queries: list[str], message: str
) -> None:
    for name in ("x.png", "x.txt"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UsageError, match=message):
        write_task(
            tmp_path / "task",
            {name: [tmp_path / path for path in paths] for name, paths in classes.items()},
            [tmp_path / path for path in queries],
        )


@pytest.mark.parametrize("name", ["", "  ", ".hidden", "a/b", "a\\b", "a\0b", "x" * 101])
def test_names_that_no_folder_can_have_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a class"):
        checked_name(name)
    assert checked_name("  red oak ") == "red oak"
