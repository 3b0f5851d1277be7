"""Pictures that someone chose, as one task of the ordinary engine: the page's answers are those of `fewshot predict`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from episodes.errors import UsageError
from episodes.files import is_picture, numbered_name
from fewshot.predict import Prediction

Chosen = Mapping[str, Sequence[str | Path]]  # class name -> its picture files


def write_task(root: Path, classes: Chosen, queries: Sequence[str | Path]) -> Path:
    """Copy the pictures into `root`/testB/task1 and return `root`; queries keep their order by a number before their names.

    Raises:
        UsageError: fewer than two classes, a class without pictures, a name that cannot be a folder's, no query, or a file
            without a picture's suffix.
    """
    if len(classes) < 2:
        raise UsageError(f"there are {len(classes)} classes: add at least two, with one picture or more each")
    if not queries:
        raise UsageError("there are no pictures to name: choose some")
    task = root / "testB" / "task1"
    for name, paths in classes.items():
        if not paths:
            raise UsageError(f"class {name!r} has no pictures: choose one or more")
        _copy(paths, task / "support" / checked_name(name))
    _copy(queries, task / "query")
    return root


def checked_name(name: str) -> str:
    """The name without the space around it.

    Raises:
        UsageError: it is empty, or could not be the name of a folder of pictures.
    """
    stripped = name.strip()
    if not stripped or stripped.startswith(".") or any(sign in stripped for sign in "/\\\0") or len(stripped) > 100:
        raise UsageError(
            f"{name!r} cannot be the name of a class: expected 1 to 100 characters, no slash, no dot at the front"
        )
    return stripped


def _copy(paths: Sequence[str | Path], folder: Path) -> None:
    folder.mkdir(parents=True)
    for number, path in enumerate(map(Path, paths), start=1):
        if not is_picture(path.name):
            raise UsageError(f"{path.name} has no picture's suffix (.jpg, .png, ...): leave it out")
        shutil.copyfile(path, folder / f"{numbered_name(number, len(paths))}-{path.name}")


def answers(prediction: Prediction, queries: Sequence[str | Path]) -> list[tuple[str, str]]:
    """(file, what the page says of it) of every query, in the order in which they were chosen."""
    frame = prediction.frame.sort_values("image", key=lambda images: images.map(_number), kind="stable")
    said = [
        f"{label}  {float(confidence):.0%}" if label else "cannot be read"
        for label, confidence in zip(frame["label"], frame["confidence"], strict=True)
    ]
    return [(str(path), text) for path, text in zip(queries, said, strict=True)]


def _number(image: str) -> int:
    return int(image.partition("-")[0])


def example(
    folder: Path, *, classes: int = 5, shots: int = 2, queries: int = 2
) -> tuple[dict[str, list[str]], list[str]]:
    """Characters that the demo keeps for its test, drawn into `folder`: (class -> support files, query files)."""
    from PIL import Image

    from fewshot.demo.alphabets import characters
    from fewshot.demo.glyphs import draw

    known: dict[str, list[str]] = {}
    asked: list[str] = []
    for character in characters("test")[:: max(1, len(characters("test")) // classes)][:classes]:
        for index, picture in enumerate(draw(character, range(shots + queries), seed=0)):
            path = folder / f"{character.name}-{index}.png"
            Image.fromarray(picture).save(path)
            (known.setdefault(character.name, []) if index < shots else asked).append(str(path))
    return known, asked[::2] + asked[1::2]
