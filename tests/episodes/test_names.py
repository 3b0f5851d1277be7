"""Names that are not UTF-8 and names that a spreadsheet computes: nothing collides, and everything comes back."""

import csv
import itertools
import os
from pathlib import Path

import pandas as pd
import pytest

from episodes import read_class_folders, read_predictions, score_predictions, write_predictions, write_task_directory
from episodes.episode import Episode
from episodes.files import class_name_of, display_name, folder_name, name_on_disk
from episodes.formulas import defuse, restore

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
    rows = [[name, name] for name in FORMULAS]
    defused = [[defuse(a), defuse(b)] for a, b in rows]
    assert len({a for a, _ in defused}) == len(FORMULAS)
    assert not any(a.startswith(tuple("=+-@\t\r＝")) for a, _ in defused)
    assert restore(defused, (0, 1)) == rows
    assert restore(rows, (0, 1)) == rows  # a bare formula among them: nothing was defused
    assert restore(defused, (0,)) == [[a, defuse(a)] for a, _ in rows]


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
        assert read_predictions(tmp_path / place).to_numpy().tolist() == frame.to_numpy().tolist()
    with open(tmp_path / "defused", encoding="utf-8", newline="") as stream:
        cells = [cell for row in csv.reader(stream) for cell in row]
    assert not [cell for cell in cells if cell.startswith(tuple("=+-@\t\r＝"))]
    for result, truth in itertools.product(("plain", "defused"), repeat=2):
        assert score_predictions(tmp_path / result, tmp_path / truth).accuracy == 1
