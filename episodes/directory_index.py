"""Listing one folder by the rules for bad input: what is a picture, what a folder, what is passed over."""

import os
from dataclasses import dataclass

from episodes.errors import DataError
from episodes.files import PICTURE_SUFFIXES, display_name
from episodes.table import PassedOverCounter

HIDDEN = "hidden"
NO_PICTURE = "without a picture suffix"
NOT_A_FILE = "neither file nor folder"


@dataclass(frozen=True)
class Listing:
    """Names in one folder, unsorted: pictures by their suffix (readable or not), and sub-folders."""

    path: str
    pictures: list[str]
    folders: list[str]


def list_folder(path: str, passed: PassedOverCounter) -> Listing:
    """List one folder; links to files and folders count as what they point to.

    A link that leads nowhere is a picture if its suffix says so: it will be told as unreadable, not lost.

    Raises:
        OSError: the folder cannot be listed.
    """
    pictures: list[str] = []
    folders: list[str] = []
    with os.scandir(path) as entries:
        for entry in entries:
            name = entry.name
            # The quick way for nearly every entry: a regular file with a known suffix.
            if (
                name[name.rfind(".") :].lower() in PICTURE_SUFFIXES
                and name[0] != "."
                and entry.is_file(follow_symlinks=False)
            ):
                pictures.append(name)
                continue
            kind = _kind(entry)
            if kind == "picture":
                pictures.append(name)
            elif kind == "folder":
                folders.append(name)
            else:
                passed.add(kind, path, name)
    return Listing(path, pictures, folders)


def _kind(entry: os.DirEntry[str]) -> str:
    """'picture', 'folder', or the reason to pass the entry over."""
    if entry.name.startswith("."):
        return HIDDEN
    looks = entry.name[entry.name.rfind(".") :].lower() in PICTURE_SUFFIXES
    try:
        if entry.is_dir():
            return "folder"
        regular = entry.is_file()
    except OSError:  # a link that leads in a circle, or through a folder that may not be entered
        return "picture" if looks else NO_PICTURE
    if regular or entry.is_symlink():
        return "picture" if looks else NO_PICTURE
    return NOT_A_FILE


def require_folder(path: str, expected: str) -> None:
    """Raise a DataError that names ``path`` unless it is a folder that can be listed."""
    shown = display_name(path)
    if not os.path.lexists(path):
        raise DataError(f"there is no folder {shown}; expected {expected}")
    if not os.path.isdir(path):
        raise DataError(f"{shown} is not a folder; expected {expected}")
    try:
        os.scandir(path).close()
    except OSError as error:
        raise cannot_list(path, error) from error


def cannot_list(path: str, error: OSError) -> DataError:
    """The DataError for a folder that cannot be listed."""
    reason = error.strerror or str(error)
    return DataError(f"cannot list the folder {display_name(path)}: {reason}; check its permissions")
