"""What a command writes, looked at before anything is read: can it be written, and would it overwrite what is read?"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from episodes.errors import DataError, UsageError
from episodes.files import display_name, is_picture

#: Files of an input folder that are no pictures, and that no output may take the place of.
_READ_TOO = ("truth.csv", "config.json", "metrics.csv", "model.safetensors")


def check_outputs(outputs: Mapping[str, Path | None], inputs: Iterable[Path | None] = ()) -> None:
    """Refuse outputs that could not be written, that are one file under two options, or that would overwrite an input.

    An output may lie in an input folder, as a result beside the tasks does; it may not be a picture or another file that is read.

    Args:
        outputs: What people call it, such as ``--report`` -> its path; None where it is not asked for.
        inputs: Files and folders that the command reads; None where there is none.

    Raises:
        UsageError: Two outputs are the same file, or one is an input.
        DataError: One could not be written.
    """
    read = [_place(path) for path in inputs if path is not None]
    taken: dict[Path, str] = {}
    for name, path in outputs.items():
        if path is None:
            continue
        place = _place(path)
        shown = f"{name} {display_name(str(path))}"
        if place in taken and (place.is_file() or not place.exists()):  # two may well go to /dev/stdout
            raise UsageError(f"{shown}: is {taken[place]} itself; give it a name of its own")
        if place.is_file() and _is_input(place, read):
            raise UsageError(f"{shown}: is read, and would be overwritten; give another name")
        taken[place] = name
        check_writable(path)


def _place(path: Path) -> Path:
    """Where a path leads; `Path.resolve` would raise where links go in a circle."""
    return Path(os.path.realpath(path))


def _is_input(place: Path, read: Iterable[Path]) -> bool:
    """Whether a file is one of the inputs, or one of a folder's that are read."""
    looked_at = is_picture(place.name) or place.name in _READ_TOO
    return any(place == path or (looked_at and path in place.parents) for path in read)


def check_writable(path: Path) -> None:
    """Refuse an output that could not be written, before anything is computed.

    Raises:
        DataError: its folder is missing or read-only, or it is a folder itself.
    """
    folder = path.parent
    if path.is_dir():
        raise DataError(f"{path}: is a folder; give the name of a file")
    if not folder.is_dir():
        raise DataError(f"{path}: there is no folder {folder} to write it into; make it first")
    if not os.access(folder, os.W_OK):
        raise DataError(f"{path}: the folder {folder} cannot be written to; give another place")
