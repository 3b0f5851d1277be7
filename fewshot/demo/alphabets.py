"""Which characters the demo draws: alphabets of the fonts that matplotlib ships, in three disjoint splits.

Writing systems share shapes (A is Latin, Greek and Cyrillic; a circle is a letter nearly everywhere), so
disjoint code points are not enough: a character is left out where an earlier one already has its shape.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fewshot.demo.strokes import Shapes

# Hands draw no serifs. The first face that has a character draws the shape that is compared with others.
FONT_FILES = (
    "DejaVuSans.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSans-Oblique.ttf",
    "DejaVuSansMono-Oblique.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSansMono-Bold.ttf",
)

# Split -> alphabet -> code points. Order matters: the earlier alphabet keeps a shared shape.
# The other Canadian syllabics are these with dots and rings, which handwriting blurs.
SPLITS: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "train": {
        "Latin": (
            *range(0x41, 0x5B),
            *range(0x61, 0x7B),
            0xDE,
            0xDF,
            0xE6,
            0xFE,
            0x14B,
            *range(0x180, 0x1C4),
            *range(0x250, 0x2A1),
        ),
        "Greek": (*range(0x391, 0x3AA), *range(0x3B1, 0x3CA)),
        "Cyrillic": (*range(0x410, 0x450), *range(0x402, 0x410), *range(0x460, 0x47E)),
        "Coptic": tuple(range(0x3E2, 0x3F0)),
        "Old_Italic": tuple(range(0x10300, 0x1031F)),
        "Nko": tuple(range(0x7CA, 0x7E8)),
        "Ogham": tuple(range(0x1681, 0x169B)),
    },
    "val": {
        "Armenian": (*range(0x531, 0x557), *range(0x561, 0x587)),
        "Hebrew": tuple(range(0x5D0, 0x5EB)),
    },
    "test": {
        "Georgian": (*range(0x10D0, 0x10F1), *range(0x10A0, 0x10C6)),
        "Lao": tuple(range(0xE81, 0xEAF)),
        "Tifinagh": tuple(range(0x2D30, 0x2D66)),
        "Arabic": tuple(range(0x621, 0x64B)),
        "Canadian": tuple(map(ord, "ᐁᐃᐅᐊᐯᐱᐳᐸᑌᑎᑐᑕᑫᑭᑯᑲᒉᒋᒍᒐᒣᒥᒧᒪᓀᓂᓄᓇᓓᓕᓗᓚᓭᓯᓱᓴᔦᔨᔪᔭᖆᖈᖉᗊᗋᗌᗎᗨᗩᗪᗬᗴᘂᘃᘄᘆᘢᘣᘤᘦᙎᙏᙐᙒ")),
    },
}

_SAME_SHAPE = 0.042  # lines nearer than this (1 = the side of the box around a character) count as one shape


@dataclass(frozen=True)
class Character:
    """One class of the demo: a character, the name of its folder and the font files that have it."""

    name: str
    text: str
    faces: tuple[Path, ...]

    @property
    def alphabet(self) -> str:
        """The script that it belongs to."""
        return self.name.split("-", 1)[0]


def font_folder() -> Path:
    """The folder of the fonts that come with matplotlib."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def characters(split: str) -> tuple[Character, ...]:
    """The characters of one split ('train', 'val' or 'test'), in a fixed order.

    No two characters, of one split or of two, have nearly the same shape. Raises ValueError for another split
    and FileNotFoundError where matplotlib's fonts are not where it says.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    return _all_characters()[split]


@functools.cache
def _all_characters() -> Mapping[str, tuple[Character, ...]]:
    charmaps = _charmaps()
    taken: Shapes | None = None
    found: dict[str, tuple[Character, ...]] = {}
    for split, alphabets in SPLITS.items():
        kept = []
        for alphabet, codes in alphabets.items():
            for code in filter(_is_base_letter, codes):
                faces = tuple(face for face, has in charmaps.items() if code in has)
                if not faces:
                    continue
                shape = Shapes.of(chr(code), faces[0])
                if taken is not None and taken.difference(shape).min() < _SAME_SHAPE:
                    continue
                taken = shape if taken is None else taken + shape
                kept.append(Character(_class_name(alphabet, code), chr(code), faces))
        found[split] = tuple(kept)
    return found


def _charmaps() -> dict[Path, frozenset[int]]:
    """The code points that each font truly has: FreeType draws an empty box for any other."""
    from matplotlib.ft2font import FT2Font

    folder = font_folder()
    faces = [folder / name for name in FONT_FILES if (folder / name).is_file()]
    if not faces:
        raise FileNotFoundError(
            f"{folder}: expected matplotlib's fonts ({', '.join(FONT_FILES[:2])}, ...), found none of them; "
            "reinstall matplotlib with pip (some system packages strip its fonts)"
        )
    return {face: frozenset(FT2Font(str(face)).get_charmap()) for face in faces}


def _is_base_letter(code: int) -> bool:
    """A letter without accents: 'A with ring' differs from A by a mark that handwriting blurs."""
    letter = chr(code)
    return (
        unicodedata.category(letter).startswith("L")
        and not unicodedata.decomposition(letter)
        and " WITH " not in unicodedata.name(letter)
    )


def _class_name(alphabet: str, code: int) -> str:
    """A folder name such as 'Latin-small-a'; words tell a from A, which not all file systems do."""
    words = unicodedata.name(chr(code)).lower().replace("'", "").replace("-", " ").split()
    said = {"letter", "syllabics", *alphabet.lower().split("_")}
    return "-".join([alphabet, *(word for word in words if word not in said)])
