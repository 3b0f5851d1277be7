"""File names and atomic writing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from episodes import DataError
from episodes.files import (
    atomic_write,
    class_name_of,
    display_name,
    folder_name,
    is_picture,
    natural_key,
    numbered_name,
    open_regular,
    plain_suffix,
)


def test_natural_order_reads_numbers() -> None:
    names = ["task10", "task2", "task1", "task", "a12b3", "a12b20", "a2b100", "10", "9"]
    assert sorted(names, key=natural_key) == [
        "9",
        "10",
        "a2b100",
        "a12b3",
        "a12b20",
        "task",
        "task1",
        "task2",
        "task10",
    ]


def test_natural_order_is_total_and_takes_any_number() -> None:
    huge = "1" * 5000  # int() refuses so many digits
    names = ["x01", "x1", "x001", f"x{huge}", f"x{huge[:-1]}2", "x0", "x"]
    expected = ["x", "x0", "x001", "x01", "x1", f"x{huge}", f"x{huge[:-1]}2"]
    assert sorted(names, key=natural_key) == expected
    names.reverse()
    assert sorted(names, key=natural_key) == expected


def test_display_name_escapes_only_what_is_not_utf8() -> None:
    assert display_name("猫 été.jpg") == "猫 été.jpg"
    assert display_name(os.fsdecode(b"a\xff\xfe.jpg")) == "a%FF%FE.jpg"
    assert display_name(os.fsdecode("é".encode() + b"\xe9")) == "é%E9"
    assert display_name("\ud83d").isascii()


@pytest.mark.parametrize(
    "name",
    ["plain", "Greek/character01", "50%", "100%25", "a%2Fb", ".hidden", "ends.", "..", "a:b*c?", "猫", "a\tb", "x "],
)
def test_folder_names_are_safe_and_come_back(name: str) -> None:
    folder = folder_name(name)
    assert "/" not in folder and not folder.startswith(".") and not folder.endswith((".", " "))
    assert class_name_of(folder) == name


def test_folder_names_stay_distinct_and_ordinary_ones_stay() -> None:
    assert folder_name("Golden-Delicious 50% (b)") == "Golden-Delicious 50% (b)"
    assert folder_name("a/b") != folder_name("a%2Fb")


def test_a_class_name_that_is_not_utf8_is_the_folder_that_it_came_from() -> None:
    assert class_name_of("caf%E9") == "caf\udce9" == os.fsdecode(b"caf\xe9")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_only_regular_files_are_opened_and_none_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")  # opened in the plain way it would wait for somebody who writes
    (tmp_path / "link.png").symlink_to(tmp_path / "pipe.png")
    (tmp_path / "picture.png").write_bytes(b"12")
    for name, found in (("pipe.png", "a FIFO"), ("link.png", "a FIFO"), (".", "a folder")):
        with pytest.raises(OSError, match=f"{found}, not a regular file"):
            open_regular(tmp_path / name)
    with open_regular(tmp_path / "picture.png") as file:
        assert file.read() == b"12"


def test_is_picture() -> None:
    assert all(map(is_picture, ["a.jpg", "a.JPEG", "a.b.PnG", "é.webp"]))
    assert not any(map(is_picture, ["a.txt", "jpg", ".jpg", "._a.jpg", "Thumbs.db", "a.jpg.part", "a."]))


def test_suffix_and_numbers() -> None:
    assert plain_suffix("x/Y.JPG") == ".jpg" and plain_suffix("noext") == ""
    assert [numbered_name(7, 75, ".png"), numbered_name(7, 12345)] == ["007.png", "00007"]


def test_atomic_write_replaces_and_keeps_the_mode(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("old")
    path.chmod(0o640)
    with atomic_write(path) as stream:
        stream.write("a\né")
        assert path.read_text() == "old"
    assert path.read_bytes() == "a\né".encode()
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["out.csv"]


def test_atomic_write_leaves_the_old_file_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic_write(path, "wb") as stream:
        stream.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["out.bin"]


def test_atomic_write_through_a_link_keeps_the_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "out.csv"
    target.write_text("old")
    link = tmp_path / "link.csv"
    link.symlink_to(target)
    with atomic_write(link) as stream:
        stream.write("new")
    assert link.is_symlink() and target.read_text() == "new"


def test_atomic_write_errors_name_the_place(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere"), atomic_write(tmp_path / "nowhere" / "x.csv"):
        pass
    with pytest.raises(DataError, match="is a folder"), atomic_write(tmp_path):
        pass


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "full.csv").symlink_to("/dev/full")
    with (
        pytest.raises(OSError, match=r"No space left on device: .*full\.csv"),
        atomic_write(tmp_path / "full.csv") as stream,
    ):
        stream.write("x")


def test_atomic_write_to_standard_output() -> None:
    if not os.path.exists("/dev/stdout"):
        pytest.skip("no /dev/stdout here")
    code = "from episodes.files import atomic_write\nwith atomic_write('/dev/stdout') as f: f.write('hello')"
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout == b"hello"
