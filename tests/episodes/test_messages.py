"""What is said, word by word: a user acts on the numbers and names in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from episodes import (
    DataError,
    Episode,
    EpisodeSampler,
    ImageTable,
    UsageError,
    paired_difference,
    read_class_folders,
    read_support_and_query,
    read_task_directory,
    read_truth,
    score_predictions,
)
from episodes.directory_index import cannot_list
from episodes.paired import PairedDifference
from episodes.table import PassedOver
from episodes.wording import counted, counted_kind

MakeTable = Callable[[Sequence[int]], ImageTable]
MakeTree = Callable[..., Path]


@pytest.mark.parametrize(
    ("sizes", "settings", "message"),
    [
        (
            [3, 5, 9, 4],
            {"ways": 3, "shots": 1, "queries": 4},
            "an episode of 3 ways needs 3 classes with at least 5 pictures (1 shot + 4 queries), found 2 among 4; too small: "
            "c0 (3), c3 (4). Ask for fewer ways, shots or queries (3 of these at most), or add pictures",
        ),
        (
            [9, *[1] * 10],
            {"ways": 2, "shots": 2, "queries": 1},
            "an episode of 2 ways needs 2 classes with at least 3 pictures (2 shots + 1 query), found 1 among 11; too small: "
            "c1 (1), c2 (1), c3 (1), c4 (1), c5 (1), c6 (1), c7 (1), c8 (1) and 2 more. "
            "Ask for fewer ways, shots or queries, or add pictures",
        ),
        (
            [9, 9],
            {"ways": 3, "shots": 1, "queries": 1},
            "an episode of 3 ways needs 3 classes with at least 2 pictures (1 shot + 1 query), found 2 among 2. "
            "Ask for fewer ways, shots or queries, or add pictures",
        ),
        (
            [9, 9],
            {"ways": 2, "shots": 2, "max_shots": 1},
            "max_shots is at least the largest of shots, 2; found 1",
        ),
        (
            [9, 9],
            {"ways": (2, 1)},
            "ways is a number of at least 1, or a range from low to high; found (2, 1)",
        ),
        ([9, 9], {"ways": 2, "queries": 0}, "queries is at least 1, found 0"),
        ([9, 9], {"ways": 2, "episodes": 0}, "episodes is at least 1, found 0"),
        ([9, 9], {"ways": 2, "max_shots": 0}, "max_shots is at least 1, found 0"),
    ],
)
def test_why_there_can_be_no_episodes(
    make_table: MakeTable, sizes: list[int], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises((DataError, UsageError)) as raised:
        EpisodeSampler(make_table(sizes), **settings)
    assert str(raised.value) == message


def test_what_objects_call_themselves(make_table: MakeTable) -> None:
    rows = np.arange(3)
    known = Episode("t", ("a", "b"), rows[:2], rows[:2], rows[2:], rows[:1])
    hidden = Episode("t", ("a", "b"), rows[:2], rows[:2], rows[2:])
    assert repr(known) == "<Episode t: 2-way, 2 support and 1 query pictures, labels known>"
    assert repr(hidden) == "<Episode t: 2-way, 2 support and 1 query pictures, labels hidden>"
    sampler = EpisodeSampler(make_table([9, 9]), ways=2, shots=(1, 3), queries=4, episodes=1, seed=7)
    assert repr(sampler) == (
        "<EpisodeSampler of 1 episode: 2-way 1-3-shot, 4 queries a class, seed 7, of 18 pictures in 2 classes>"
    )


@pytest.mark.parametrize(
    ("difference", "text"),
    [
        (PairedDifference(0.01, 0.02, 10, 40), "+1.00% ± 2.00% over 10 episodes: not settled; about 40 would"),
        (
            PairedDifference(0, 0.02, 10, None),
            "+0.00% ± 2.00% over 10 episodes: not settled; no number would settle it",
        ),
        (PairedDifference(-0.03, 0.02, 10, 10), "-3.00% ± 2.00% over 10 episodes"),
        (
            PairedDifference(0.03, 0.02, 10, 10, 0.05),
            "+3.00% ± 2.00% over 10 episodes of these classes; ± 5.00% for new classes: not settled",
        ),
        (
            PairedDifference(-0.06, 0.02, 1, 1, 0.05),
            "-6.00% ± 2.00% over 1 episode of these classes; ± 5.00% for new classes: settled",
        ),
    ],
)
def test_a_difference_in_a_sentence(difference: PairedDifference, text: str) -> None:
    assert difference.summary() == text


def test_different_episodes_are_told_by_what_differs() -> None:
    class Answers:
        accuracy = np.array([0.5, 1.0])

        def __init__(self, names: tuple[str, ...], row: Sequence[int]) -> None:
            self.names, self.row = names, np.array(row)

    with pytest.raises(DataError, match="the same episodes twice, but their names differ"):
        paired_difference(Answers(("a", "b"), [0, 1]), Answers(("a", "c"), [0, 1]))
    with pytest.raises(DataError, match="the same episodes twice, but their rows differ"):
        paired_difference(Answers(("a", "b"), [0, 1]), Answers(("a", "b"), [0, 2]))


def test_numbers_and_kinds_agree() -> None:
    assert [counted(n, "task") for n in (0, 1, 2)] == ["0 tasks", "1 task", "2 tasks"]
    assert [counted(n, "query", "queries") for n in (1, 2)] == ["1 query", "2 queries"]
    kinds = ("hidden", "classes without a support picture", "pictures outside a class folder")
    assert [counted_kind(1, kind) for kind in kinds] == [
        "1 hidden", "1 class without a support picture", "1 picture outside a class folder"
    ]  # fmt: skip
    assert [counted_kind(2, kind) for kind in kinds] == [f"2 {kind}" for kind in kinds]
    counts = {kinds[0]: 2, kinds[1]: 1, kinds[2]: 5}
    examples = {kinds[0]: ("a/.x", "b/.y"), kinds[2]: ("p", "q", "r")}
    assert PassedOver(counts, examples).summary() == (
        "passed over: 2 hidden (a/.x, b/.y); 1 class without a support picture; "
        "5 pictures outside a class folder (p, q, r, …)"
    )


def test_folders_that_are_none_or_cannot_be_listed_are_named(make_tree: MakeTree) -> None:
    place = make_tree("a/1.png")
    error = cannot_list("x\udce9", PermissionError(13, "Permission denied"))
    assert str(error) == "cannot list the folder x%E9: Permission denied; check its permissions"
    assert str(cannot_list("x", OSError("odd"))) == "cannot list the folder x: odd; check its permissions"
    for root, text in (
        (place / "no", "there is no folder {}; expected a folder"),
        (place / "a" / "1.png", "{} is not a folder; "),
    ):
        with pytest.raises(DataError) as raised:
            read_class_folders(root)
        assert str(raised.value).startswith(text.format(root).removesuffix("a folder"))
    with pytest.raises(DataError) as raised:
        read_support_and_query(place, [place / "no.png"])
    assert str(raised.value) == f"there is no {place / 'no.png'}; expected a picture to name, or a folder of them"


TASKS = (*(f"t/support/{name}/1.png" for name in "abcdef"), "t/query/1.png", "t/query/2.png")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            "t,1.png,a\nt,2.png,z\n",
            "truth.csv: t/2.png has the label 'z', which is no class folder of the task (a, b, c, d, e, …)",
        ),
        ("t,1.png,a\n", "truth.csv has no row for 1 query picture: t/2.png"),
        ("t,1.png,a\nt,2.png,b\nt,3.png,b\n", "truth.csv names 1 query picture that is not there: t/3.png"),
        (
            "t,1.png,a\nt,2.png,b\nt,4.png,b\nt,3.png,b\n",
            "truth.csv names 2 query pictures that are not there: t/3.png, t/4.png",
        ),
        ("t,1.png,a\nt,2.png,b\nu,1.png,b\n", "truth.csv names 1 task that is not there: u"),
        ("t,1.png,a\nt,2.png,b\nt,1.png,b\n", "truth.csv: rows appear more than once: t/1.png"),
    ],
)
def test_how_a_truth_does_not_fit(make_tree: MakeTree, rows: str, message: str) -> None:
    root = make_tree(*TASKS)
    truth = root / "truth.csv"
    truth.write_text(f"task,image,label\n{rows}")
    with pytest.raises(DataError) as raised:
        read_task_directory(root)
    assert str(raised.value) == message.replace("truth.csv", str(truth), 1)


def test_a_file_without_tasks_and_one_of_other_columns_say_so(tmp_path: Path) -> None:
    path = tmp_path / "truth.csv"
    path.write_text("image,label\n1.png,a\n1.png,b\n")
    with pytest.raises(DataError) as raised:
        read_truth(path)
    assert str(raised.value) == f"{path}: has no column task, and rows appear more than once: 1.png"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DataError) as raised:
        score_predictions(path, path, columns={"image": "file", "label": "class"})
    assert str(raised.value) == (
        f"{path}: expected a CSV file with the columns task,image,label (image may be called file, label may be called class), "
        "found the header a,b; columns of other names: --columns image=NAME,label=NAME"
    )
