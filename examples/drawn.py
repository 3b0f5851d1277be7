"""Class folders for the examples: handwriting that the package draws itself, or the folder that is named on the command line."""

import sys
import tempfile
from pathlib import Path

from PIL import Image

from fewshot.demo.alphabets import characters
from fewshot.demo.glyphs import draw


def class_folders(part: str = "test", classes: int = 12, pictures: int = 20) -> Path:
    """Class folders of one part of the demo's alphabets ("train", "val" or "test"); or the command line's, if it names one.

    Args:
        part: which alphabets; no two parts share one.
        classes: how many characters.
        pictures: of each.
    """
    named = {"train": 1, "val": 2, "test": 2}[part]
    if len(sys.argv) > named and Path(sys.argv[named]).is_dir():
        return Path(sys.argv[named])
    root = Path(tempfile.mkdtemp(prefix=f"fewshot-{part}-"))
    chosen = characters(part)
    for character in chosen[:: max(1, len(chosen) // classes)][:classes]:
        folder = root / character.name
        folder.mkdir()
        for number, pixels in enumerate(draw(character, range(pictures), seed=0)):
            Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    return root
