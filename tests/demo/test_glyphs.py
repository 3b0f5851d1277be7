"""Drawn characters: the same every time, different from one another, legible, and worth learning."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

from fewshot.demo.alphabets import SPLITS, Character, characters, font_folder
from fewshot.demo.glyphs import SIDE, draw
from fewshot.demo.strokes import PAGE, middle_lines, stroke_distance


def _everything() -> list[Character]:
    return [character for split in SPLITS for character in characters(split)]


def test_alphabets_of_the_splits_are_disjoint_and_large_enough() -> None:
    names = {split: [c.name for c in characters(split)] for split in SPLITS}
    alphabets = {split: {c.alphabet for c in characters(split)} for split in SPLITS}
    for one, other in itertools.combinations(SPLITS, 2):
        assert not alphabets[one] & alphabets[other]
        assert not {c.text for c in characters(one)} & {c.text for c in characters(other)}
    assert len(names["train"]) >= 140
    assert len(names["val"]) >= 40
    assert len(names["test"]) >= 60
    # Folder names must stay apart on file systems that fold case, and need no escaping.
    folded = [name.casefold() for found in names.values() for name in found]
    assert len(set(folded)) == len(folded)
    assert all(name.replace("-", "").replace("_", "").isalnum() and name.isascii() for name in folded)


def test_every_face_truly_has_its_character() -> None:
    fonts = {face: FT2Font(str(face)) for c in _everything() for face in c.faces}
    for character in _everything():
        assert character.faces
        for face in character.faces:
            assert fonts[face].get_char_index(ord(character.text)) != 0, (character.name, face.name)


def test_no_two_characters_share_a_shape() -> None:
    # Independent of the library's comparison: plain renders, stretched onto one square, pixel by pixel.
    def plain(character: Character) -> np.ndarray:
        font = ImageFont.truetype(str(character.faces[0]), 64, layout_engine=ImageFont.Layout.BASIC)
        left, top, right, bottom = font.getbbox(character.text)
        picture = Image.new("L", (int(right - left), int(bottom - top)))
        ImageDraw.Draw(picture).text((-left, -top), character.text, font=font, fill=255)
        return np.asarray(picture.resize((24, 24), Image.Resampling.BOX), dtype=np.float64).ravel() / 255

    ink = np.stack([plain(character) for character in _everything()])
    shared = ink @ ink.T
    area = np.diag(shared)
    overlap = shared / (area[:, None] + area[None] - shared)
    np.fill_diagonal(overlap, 0.0)
    assert overlap.max() < 0.92


@pytest.mark.parametrize("split", list(SPLITS))
def test_a_picture_depends_on_seed_character_and_index_only(split: str) -> None:
    one, other = characters(split)[0], characters(split)[7]
    pictures = draw(one, range(6), seed=3)
    assert pictures.shape == (6, SIDE, SIDE) and pictures.dtype == np.uint8
    np.testing.assert_array_equal(draw(one, [4], seed=3)[0], pictures[4])
    np.testing.assert_array_equal(draw(one, [5, 0], seed=3), pictures[[5, 0]])
    assert all((a != b).any() for a, b in itertools.combinations(pictures, 2))
    assert (draw(one, range(6), seed=4) != pictures).any(axis=(1, 2)).all()
    assert (draw(other, range(6), seed=3) != pictures).any(axis=(1, 2)).all()


def test_pictures_are_the_same_in_another_process() -> None:
    code = (
        "import hashlib; from fewshot.demo.alphabets import characters; from fewshot.demo.glyphs import draw;"
        "print(hashlib.sha256(draw(characters('test')[5], [2, 9], seed=1).tobytes()).hexdigest())"
    )
    here = hashlib.sha256(draw(characters("test")[5], [2, 9], seed=1).tobytes()).hexdigest()
    there = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert there.stdout.strip() == here


def test_drawing_leaves_numpys_global_state_alone() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    draw(characters("val")[0], range(3))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_every_character_leaves_ink_that_stays_on_the_paper() -> None:
    cut = []
    for character in _everything():
        for picture in draw(character, range(3)):
            ink = 255 - picture.astype(np.int64)
            assert 0.002 < ink.mean() / 255 < 0.35, character.name
            border = np.concatenate([ink[0], ink[-1], ink[:, 0], ink[:, -1]])
            cut.append((border > 128).sum() > 4)
    assert np.mean(cut) < 0.01


def test_middle_line_of_a_thick_stroke_runs_down_its_middle() -> None:
    face = font_folder() / "DejaVuSans-Bold.ttf"
    line = middle_lines("l", face)  # a bar of 22 x 96 pixels
    columns = np.flatnonzero(line.any(axis=0))
    assert abs(columns.mean() - (PAGE - 1) / 2) <= 1.0
    assert np.ptp(columns) <= 7  # neither its outline, nor forks into its corners
    assert 96 - 22 <= np.ptp(np.flatnonzero(line.any(axis=1))) + 1 <= 96
    row = PAGE // 2
    expected = np.abs(np.arange(PAGE)[:, None] - np.flatnonzero(line[row])[None]).min(axis=1)
    np.testing.assert_allclose(stroke_distance("l", face)[row], expected, atol=1e-5)


def test_raw_pixels_find_it_hard_but_not_hopeless() -> None:
    # A demo that raw pixels solve would show nothing; one at chance (20 %) would be noise.
    pictures = np.stack([255.0 - draw(c, range(6)) for c in characters("test")])
    features = pictures.reshape(*pictures.shape[:2], -1)
    features /= np.linalg.norm(features, axis=-1, keepdims=True)
    rng = np.random.default_rng(0)
    right = []
    for _ in range(400):
        chosen = features[rng.choice(len(features), 5, replace=False)]
        similarity = np.einsum("cqd,nd->cqn", chosen[:, 1:], chosen[:, 0])
        right.append((similarity.argmax(axis=-1) == np.arange(5)[:, None]).mean())
    assert 0.40 < np.mean(right) < 0.70


def test_errors_say_what_was_asked() -> None:
    with pytest.raises(ValueError, match="train, val, test.*'tset'"):
        characters("tset")
    with pytest.raises(ValueError, match="Armenian"):
        draw(characters("val")[0], [])
