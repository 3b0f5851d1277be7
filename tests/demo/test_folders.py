"""Class folders of drawn characters: complete or absent, never half."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from episodes import read_class_folders
from episodes.errors import DataError
from fewshot.demo import folders as folders_module
from fewshot.demo.alphabets import SPLITS, characters
from fewshot.demo.folders import MARKER, draw_demo
from fewshot.demo.glyphs import draw


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "pictures"
    draw_demo(root, seed=5, images=3)
    return root


def test_class_folders_read_back(drawn: Path) -> None:
    for split in SPLITS:
        table = read_class_folders(drawn / split)
        assert sorted(table.class_names) == sorted(c.name for c in characters(split))
        assert table.counts.tolist() == [3] * len(table.class_names)
        assert table.passed_over.summary() == ""


def test_files_hold_the_drawn_pictures(drawn: Path) -> None:
    character = characters("val")[4]
    expected = draw(character, range(3), seed=5)
    for index in range(3):
        with Image.open(drawn / "val" / character.name / f"{index:02d}.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture), expected[index])


def test_drawing_again_writes_nothing(drawn: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in drawn.rglob("*")}
    told: list[tuple[int, int]] = []
    found = draw_demo(drawn, seed=5, images=3, progress=lambda done, total: told.append((done, total)))
    assert (found.train, found.val, found.test) == (drawn / "train", drawn / "val", drawn / "test")
    assert {path: path.stat().st_mtime_ns for path in drawn.rglob("*")} == before
    assert not told


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two characters a split, to draw often."""
    monkeypatch.setattr(folders_module, "characters", lambda split: characters(split)[:2])


@pytest.mark.usefixtures("few")
def test_other_settings_and_missing_pictures_are_drawn_anew(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "pictures"
    draw_demo(root, seed=0, images=2)
    first = next(root.glob("train/*/00.png"))
    old = first.read_bytes()
    draw_demo(root, seed=1, images=2)
    assert first.read_bytes() != old
    first.unlink()
    told: list[tuple[int, int]] = []
    draw_demo(root, seed=1, images=2, progress=lambda done, total: told.append((done, total)))
    assert first.is_file()
    assert told == [(2 * n, 12) for n in range(1, 7)]
    assert [path.name for path in root.parent.iterdir()] == ["pictures"]


@pytest.mark.usefixtures("few")
def test_an_interruption_leaves_what_was_there(tmp_path: Path) -> None:
    root = tmp_path / "pictures"

    def interrupt(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_demo(root, images=2, progress=interrupt)
    assert list(tmp_path.iterdir()) == []
    draw_demo(root, images=2)
    before = {path: path.read_bytes() for path in root.rglob("*.png")}
    with pytest.raises(KeyboardInterrupt):
        draw_demo(root, images=2, seed=9, progress=interrupt)
    assert {path: path.read_bytes() for path in root.rglob("*.png")} == before
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


@pytest.mark.usefixtures("few")
def test_somebody_elses_folder_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "holiday.jpg"
    mine.write_bytes(b"picture")
    with pytest.raises(DataError, match=f"{tmp_path}.*{MARKER}.*another folder"):
        draw_demo(tmp_path)
    with pytest.raises(DataError, match=r"holiday\.jpg"):
        draw_demo(mine)
    assert mine.read_bytes() == b"picture"
    (tmp_path / "empty").mkdir()
    assert draw_demo(tmp_path / "empty", images=2).test.is_dir()


def test_one_image_a_class_makes_no_episode(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 2.*got 1"):
        draw_demo(tmp_path / "pictures", images=1)
