"""Names of classes and pictures that a folder can have, and chosen pictures as one task of the ordinary engine.

A picture keeps its own file name, so that the result's CSV holds the names that its owner knows.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from episodes.errors import UsageError
from episodes.files import copy_regular, is_picture, name_on_disk
from episodes.wording import counted

Files = Sequence[tuple[str, Path]]  # (own name, where the picture lies)
_LONGEST_NAME = 200  # bytes; file systems take 255, and a number may be added


def checked_class(name: str) -> str:
    """The name of a class without the space around it.

    Raises:
        UsageError: it is empty, too long, or could not be the name of a folder of pictures.
    """
    stripped = name.strip()
    unfit = any(sign in stripped for sign in "/\\") or any(ord(sign) < 32 for sign in stripped)
    if not stripped or stripped.startswith(".") or unfit or len(stripped.encode()) > _LONGEST_NAME:
        raise UsageError(
            f"{name[:100]!r} cannot be the name of a class: expected up to {_LONGEST_NAME} bytes, no slash, no dot at the front"
        )
    return stripped


def checked_picture(name: str) -> str:
    """The file name of a picture, without any folders before it.

    Raises:
        UsageError: it is no name of a picture's file.
    """
    base = name.replace("\\", "/").rpartition("/")[2]
    if not is_picture(base):
        raise UsageError(
            f"{base[:100] or name[:100]!r} has no picture's suffix (.jpg, .png, ...), or begins with a dot"
        )
    if any(ord(sign) < 32 for sign in base) or len(base.encode("utf-8", "surrogatepass")) > _LONGEST_NAME:
        raise UsageError(
            f"{base[:100]!r}: expected a file name of up to {_LONGEST_NAME} bytes without control characters"
        )
    return base


def distinct(names: Iterable[str]) -> list[str]:
    """The names, of which one that comes again gets a number: cat.jpg, cat (2).jpg."""
    used: set[str] = set()
    found = []
    for name in names:
        stem, suffix = os.path.splitext(name)
        number, own = 1, name
        while own in used:
            number += 1
            own = f"{stem} ({number}){suffix}"
        used.add(own)
        found.append(own)
    return found


def write_task(task: Path, classes: Mapping[str, Files], queries: Files, *, copy: bool) -> dict[str, int]:
    """Lay the pictures out as one task: `task`/support/<class>/<picture> and `task`/query/<picture>.

    Args:
        task: the folder to make.
        classes: class name -> its pictures.
        queries: the pictures to name.
        copy: copies; else links, which the engine follows.

    Returns:
        Path of each picture below `task` -> its place, counted over all classes and then the queries.

    Raises:
        UsageError: fewer than two classes with pictures, or no query.
    """
    filled = {name: files for name, files in classes.items() if files}
    if len(filled) < 2:
        raise UsageError(
            f"{counted(len(filled), 'class has', 'classes have')} pictures: it takes two at least, with one picture or more each"
        )
    if not queries:
        raise UsageError("there are no pictures to name: add some")
    places: dict[str, int] = {}
    for name, files in (*classes.items(), (None, queries)):
        folder = task / "query" if name is None else task / "support" / name_on_disk(name)
        folder.mkdir(parents=True)
        for own, (_, source) in zip(distinct(own for own, _ in files), files, strict=True):
            target = folder / own
            places[str(target)] = len(places)
            _place(source, target, copy)
    return places


def _place(source: Path, target: Path, copy: bool) -> None:
    if not copy:
        try:
            target.symlink_to(source.absolute())
            return
        except OSError:  # a file system, or a Windows, without links
            pass
    copy_regular(source, target)


def example(
    folder: Path, *, classes: int = 5, shots: int = 2, queries: int = 2
) -> tuple[dict[str, list[Path]], list[Path]]:
    """Characters that the demo keeps for its test, drawn into `folder`: (class -> support files, query files)."""
    from PIL import Image

    from fewshot.demo.alphabets import characters
    from fewshot.demo.glyphs import draw

    known: dict[str, list[Path]] = {}
    asked: list[Path] = []
    for character in characters("test")[:: max(1, len(characters("test")) // classes)][:classes]:
        for index, picture in enumerate(draw(character, range(shots + queries), seed=0)):
            path = folder / f"{character.name}-{index}.png"
            Image.fromarray(picture).save(path)
            (known.setdefault(character.name, []) if index < shots else asked).append(path)
    return known, asked[::2] + asked[1::2]
