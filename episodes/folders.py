"""Class folders: ``<root>/<class>/<image>`` as an ImageTable.

Classes are in natural order, the rows of a class in plain string order: sorting a million names
naturally would cost more than listing them, and only classes, tasks and results are read by people.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from episodes.directory_index import Listing, list_folder, require_folder
from episodes.errors import DataError, UsageError
from episodes.files import display_name, natural_key
from episodes.paths import PathList
from episodes.table import ImageTable, PassedOver, PassedOverCounter
from episodes.wording import counted

__all__ = ["ImageTable", "PassedOver", "read_class_folders"]

_EXPECTED = "class folders with pictures in them: <root>/<class>/<image>"


@dataclass(frozen=True)
class _ClassFolder:
    name: str
    path: str
    pictures: list[str]


def read_class_folders(root: str | os.PathLike[str], *, nested: bool = False, min_images: int = 1) -> ImageTable:
    """Index a folder of class folders.

    Args:
        root: the folder that holds the class folders.
        nested: take every folder below ``root`` that directly holds pictures as a class, named by its path
            (``Greek/character01``); otherwise only the folders directly in ``root`` are classes.
        min_images: pass over (and count) classes with fewer pictures.

    Raises:
        DataError: no such folder, or no class in it; the message says what was found instead.
        UsageError: ``min_images`` below 1.
    """
    if min_images < 1:
        raise UsageError(f"min_images is at least 1, found {min_images}")
    top = os.fspath(root)
    require_folder(top, _EXPECTED)
    passed = PassedOverCounter()
    listing = list_folder(top, passed)
    found = list(_nested_classes(listing, passed) if nested else _direct_classes(listing, passed))
    kept = []
    for folder in found:
        if len(folder.pictures) < min_images:
            passed.add(f"classes with fewer than {min_images} pictures", folder.path)
        else:
            kept.append(folder)
    if not kept:
        raise DataError(_explain_nothing(listing, found, min_images, passed))
    for name in listing.pictures:
        passed.add("pictures outside a class folder", top, name)
    return _to_table(kept, passed)


def _direct_classes(root: Listing, passed: PassedOverCounter) -> Iterator[_ClassFolder]:
    for name in root.folders:
        listing = _try_list(os.path.join(root.path, name), passed)
        if listing is None:
            continue
        for inner in listing.folders:
            passed.add("sub-folders of a class folder", listing.path, inner)
        if listing.pictures:
            yield _ClassFolder(display_name(name), listing.path, listing.pictures)
        else:
            passed.add("folders without pictures", listing.path)


def _nested_classes(root: Listing, passed: PassedOverCounter) -> Iterator[_ClassFolder]:
    """Walk the tree; a link back to a folder that we are inside of would never end, so it is passed over."""
    stack = [(root, "", frozenset([_identity(root.path)]))]
    while stack:
        here, prefix, inside = stack.pop()
        for name in here.folders:
            path = os.path.join(here.path, name)
            identity = _identity(path)
            if identity in inside:
                passed.add("links back to a folder above", path)
                continue
            listing = _try_list(path, passed)
            if listing is None:
                continue
            if listing.pictures:
                yield _ClassFolder(display_name(prefix + name), path, listing.pictures)
            elif not listing.folders:
                passed.add("folders without pictures", path)
            if listing.folders:
                stack.append((listing, f"{prefix}{name}/", inside | {identity}))


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino)


def _try_list(path: str, passed: PassedOverCounter) -> Listing | None:
    # A folder that may not be entered (lost+found at the top of a disk) is told, but ends nothing.
    try:
        return list_folder(path, passed)
    except OSError as error:
        passed.add(f"folders that cannot be listed ({error.strerror})", path)
        return None


def _to_table(folders: list[_ClassFolder], passed: PassedOverCounter) -> ImageTable:
    folders.sort(key=lambda folder: natural_key(folder.name))
    names: list[str] = []
    for folder in folders:
        names.extend(sorted(folder.pictures))
    sizes = [len(folder.pictures) for folder in folders]
    labels = np.repeat(np.arange(len(folders), dtype=np.int32), sizes)
    items = PathList([folder.path for folder in folders], labels, names)
    return ImageTable(items, labels, tuple(folder.name for folder in folders), passed.result())


def _explain_nothing(root: Listing, found: list[_ClassFolder], min_images: int, passed: PassedOverCounter) -> str:
    head = f"{display_name(root.path)} holds no class folders with pictures; expected {_EXPECTED}. "
    if found:
        largest = max(found, key=lambda folder: len(folder.pictures))
        return (
            f"{display_name(root.path)}: none of the {len(found)} classes has {min_images} pictures; "
            f"the largest, {largest.name}, has {len(largest.pictures)}. Lower min_images"
        )
    deeper = _first_deeper_class(root)
    if deeper:
        return (
            head + f"Its folders hold folders of pictures (such as {display_name(deeper)}): "
            "read it with nested=True, or give one of the inner folders"
        )
    if root.pictures:
        count, example = len(root.pictures), display_name(min(root.pictures))
        return (
            head
            + f"Found {counted(count, 'picture')} directly in it (such as {example}): put each class into its own folder"
        )
    told = passed.result().summary()
    return head + (f"Found {counted(len(root.folders), 'folder')}; {told}" if root.folders or told else "It is empty")


def _first_deeper_class(root: Listing) -> str | None:
    """A folder of pictures two levels down, if there is one: the sign of nested classes."""
    ignored = PassedOverCounter()
    for name in root.folders:
        outer = _try_list(os.path.join(root.path, name), ignored)
        for inner in outer.folders if outer else ():
            listing = _try_list(os.path.join(root.path, name, inner), ignored)
            if listing and listing.pictures:
                return listing.path
    return None
