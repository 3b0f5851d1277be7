"""Names that are not UTF-8 and names that a spreadsheet computes: nothing collides, and everything comes back."""

import csv
import itertools
import os
from pathlib import Path

import pandas as pd
import pytest

from episodes import (
    read_class_folders,
    read_predictions,
    read_task_directory,
    score_predictions,
    write_predictions,
    write_task_directory,
)
from episodes.episode import Episode
from episodes.files import class_name_of, display_name, folder_name, name_on_disk
from episodes.formulas import closest_reading, defuse, restore

PIECES = (b"%", b"25", b"FF", b"\xff", b"\xc3", b"\xa9", b"C3", b"A9", b"a", b"2", b"5")


def test_no_two_names_are_shown_alike_and_every_name_comes_back() -> None:
    shown: dict[str, bytes] = {}
    for pieces in itertools.chain.from_iterable(itertools.product(PIECES, repeat=n) for n in range(1, 5)):
        raw = b"".join(pieces)
        text = display_name(os.fsdecode(raw))
        text.encode("utf-8")
        assert shown.setdefault(text, raw) == raw
        assert os.fsencode(name_on_disk(text)) == raw


@pytest.mark.parametrize("name", ["caf%C3%A9.jpg", "50%.png", "Greek%2Fcharacter01", "a%25b", "%ff", "猫 été.jpg"])
def test_names_that_do_not_pass_for_escaped_bytes_stay_as_they_are(name: str) -> None:
    assert display_name(name) == name == name_on_disk(name)


def test_a_byte_and_its_escape_are_two_classes(tmp_path: Path) -> None:
    names = (b"c\xff", b"c%FF", b"c%25FF")
    for number, name in enumerate(names):
        folder = os.path.join(os.fsencode(tmp_path), name)
        os.mkdir(folder)
        for picture in range(number + 1):
            Path(os.fsdecode(os.path.join(folder, b"%d.png" % picture))).touch()
    table = read_class_folders(tmp_path)
    assert dict(zip(table.class_names, table.counts.tolist(), strict=True)) == {"c%FF": 1, "c%25FF": 2, "c%2525FF": 3}


def test_classes_that_are_not_utf8_survive_being_written_as_tasks(tmp_path: Path) -> None:
    for name in (b"c\xff", b"c%FF"):
        folder = os.path.join(os.fsencode(tmp_path), b"in", name)
        os.makedirs(folder)
        for picture in range(2):
            Path(os.fsdecode(os.path.join(folder, b"%d.png" % picture))).write_bytes(name)
    table = read_class_folders(tmp_path / "in")
    episode = Episode("e", table.class_names, [0, 2], [0, 1], [1, 3], [0, 1])
    write_task_directory(table, [episode], tmp_path / "out")
    with open(tmp_path / "out/truth.csv", encoding="utf-8", newline="") as stream:
        labels = {row["image"]: row["label"] for row in csv.DictReader(stream)}
    for folder in (tmp_path / "out/testB/task1/support").iterdir():
        (content,) = {path.read_bytes() for path in folder.iterdir()}
        told = {
            labels[path.name] for path in (tmp_path / "out/testB/task1/query").iterdir() if path.read_bytes() == content
        }
        assert told == {display_name(folder.name)}
    assert {class_name_of(display_name(folder_name(name))) for name in table.class_names} == set(table.class_names)


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "＝1", "'=1", "''=1", "plain", "'quoted'", "a=b", ""]


def test_defused_names_come_back_and_none_is_a_formula() -> None:
    defused = [defuse(name) for name in FORMULAS]
    assert len(set(defused)) == len(FORMULAS)
    assert not any(name.startswith(tuple("=+-@\t\r＝")) for name in defused)
    assert [restore(name) for name in defused] == FORMULAS


def test_a_file_is_read_as_it_fits() -> None:
    plain = {"t": {"'=1.png": "=a", "=1.png": "'=a", "2.png": ""}}
    defused = {"t": {"''=1.png": "'=a", "'=1.png": "''=a", "2.png": ""}}
    keys = {("t", image) for image in plain["t"]}
    assert closest_reading(plain, keys, ["=a", "'=a"]) is plain
    assert closest_reading(defused, keys, ["=a", "'=a"]) == plain
    lone = {"t": {"'=1.png": "'=a"}}  # looks defused, but is not
    assert closest_reading(lone, {("t", "'=1.png")}, ["'=a"]) is lone
    assert closest_reading(lone, {("t", "=1.png")}, ["=a"]) == {"t": {"=1.png": "=a"}}


def test_a_defused_truth_is_that_of_its_tasks(tmp_path: Path) -> None:
    for name in ("support/=a/1.png", "support/b/1.png", "query/=1.png", "query/2.png"):
        path = tmp_path / "task1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for text in ("task1,=1.png,=a\ntask1,2.png,b\n", "task1,'=1.png,'=a\ntask1,2.png,b\n"):
        (tmp_path / "truth.csv").write_text(f"task,image,label\n{text}")
        _, (episode,) = read_task_directory(tmp_path)
        assert episode.query_labels is not None
        assert [episode.class_names[i] for i in episode.query_labels] == ["b", "=a"]  # 2.png comes first


def test_score_reads_defused_files_and_plain_ones(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "task": "=task",
            "image": [f"{name}.png" for name in FORMULAS],
            "label": ["=a", "'=b"] * 6 + ["=a"],
            "confidence": 0.5,
        }
    )
    for place, defused in (("plain", False), ("defused", True)):
        write_predictions(frame, tmp_path / place, defuse_formulas=defused)
        read = read_predictions(tmp_path / place).to_numpy().tolist()
        assert [[restore(cell) if defused else cell for cell in row[:3]] for row in read] == frame[
            [*frame][:3]
        ].to_numpy().tolist()
    with open(tmp_path / "defused", encoding="utf-8", newline="") as stream:
        cells = [cell for row in csv.reader(stream) for cell in row]
    assert not [cell for cell in cells if cell.startswith(tuple("=+-@\t\r＝"))]
    for result, truth in itertools.product(("plain", "defused"), repeat=2):
        assert score_predictions(tmp_path / result, tmp_path / truth).accuracy == 1
