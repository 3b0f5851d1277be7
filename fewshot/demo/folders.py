"""Writes the demo's pictures as class folders, `<root>/train/<character>/00.png`: all of them or none."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from episodes.errors import DataError
from fewshot.demo.alphabets import SPLITS, Character, characters
from fewshot.demo.glyphs import SIDE, draw

MARKER = "drawn.json"
_DRAWING = 1  # raise it when the pictures of one seed change, so that old folders are drawn anew


@dataclass(frozen=True)
class DemoFolders:
    """Class folders whose alphabets are disjoint."""

    train: Path
    val: Path
    test: Path


def draw_demo(
    root: str | Path,
    *,
    seed: int = 0,
    images: int = 20,
    progress: Callable[[int, int], None] | None = None,
) -> DemoFolders:
    """Draw `images` pictures of every character into `<root>/{train,val,test}/<character>/`.

    Where `root` already holds them, drawn with the same settings, nothing is done; pictures drawn with others
    are replaced. `progress(done, total)` is told the count of pictures after every character. Pictures are
    drawn beside `root` and moved into it, so an interruption leaves what was there before.
    Raises DataError where `root` holds something else, and ValueError for fewer than two images.
    """
    if images < 2:
        raise ValueError(f"images must be at least 2 (one to learn from, one to ask about), got {images}")
    root = Path(root)
    folders = DemoFolders(*(root / split for split in SPLITS))
    settings = {"drawing": _DRAWING, "seed": seed, "images": images, "side": SIDE}
    if _holds(root, settings):
        return folders
    _refuse_foreign(root)
    root.parent.mkdir(parents=True, exist_ok=True)
    beside = root.parent / f".{root.name}.{uuid.uuid4().hex[:8]}.part"
    try:
        count = _draw_all(beside, seed, images, progress)
        (beside / MARKER).write_text(json.dumps({**settings, "pictures": count}) + "\n", encoding="utf-8")
        _move_into_place(beside, root)
    except OSError as error:
        raise DataError(
            f"{root}: the pictures cannot be drawn there ({error.strerror or error}); name another folder"
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folders


def _draw_all(root: Path, seed: int, images: int, progress: Callable[[int, int], None] | None) -> int:
    work: list[tuple[str, Character]] = [(split, one) for split in SPLITS for one in characters(split)]
    for done, (split, character) in enumerate(work, start=1):
        folder = root / split / character.name
        folder.mkdir(parents=True)
        for index, picture in enumerate(draw(character, range(images), seed=seed)):
            Image.fromarray(picture).save(folder / f"{index:02d}.png")
        if progress is not None:
            progress(done * images, len(work) * images)
    return len(work) * images


def _holds(root: Path, settings: dict[str, int]) -> bool:
    """Whether root holds every picture of these settings: someone may have deleted a few."""
    try:
        found = json.loads((root / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if not isinstance(found, dict) or {key: found.get(key) for key in settings} != settings:
        return False
    return sum(1 for split in SPLITS for _ in (root / split).glob("*/*.png")) == found.get("pictures")


def _refuse_foreign(root: Path) -> None:
    if root.is_dir() and ((root / MARKER).is_file() or not any(root.iterdir())):
        return
    if root.exists():
        raise DataError(
            f"{root}: expected a new or empty folder, or one that the demo drew (with {MARKER} in it), "
            "found something else; name another folder"
        )


def _move_into_place(beside: Path, root: Path) -> None:
    if not root.exists():
        os.replace(beside, root)
        return
    old = root.parent / f".{root.name}.{uuid.uuid4().hex[:8]}.old"
    os.replace(root, old)
    os.replace(beside, root)
    shutil.rmtree(old, ignore_errors=True)
