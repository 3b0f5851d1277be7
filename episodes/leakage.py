"""Leakage guard: classes and pictures that sets which should be apart have in common.

Pictures are compared by content, not by name. Only files of equal size are read, so most sets cost one
``stat`` a picture. Files that cannot be read are left to those who decode them.
"""

import hashlib
import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from episodes.episode import Episode
from episodes.files import display_name, open_regular
from episodes.table import ImageTable
from episodes.wording import counted

_NAMED = 3
_BLOCK = 1 << 20


@dataclass(frozen=True)
class SharedClasses:
    """Class names that more than one table has, in the order of the first table that has them."""

    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def summary(self) -> str:
        """'' where nothing is shared."""
        if not self.names:
            return ""
        many = "1 class name is" if len(self) == 1 else f"{len(self)} class names are"
        return f"{many} shared: {_some(self.names)}"


@dataclass(frozen=True)
class SamePicture:
    """One content found in several places: (number of the table, row) of each, and its path."""

    places: tuple[tuple[int, int], ...]
    paths: tuple[str, ...]


@dataclass(frozen=True)
class IdenticalPictures:
    """Contents that more than one table holds, in the order of their first place."""

    pictures: tuple[SamePicture, ...]

    def __len__(self) -> int:
        return len(self.pictures)

    def __iter__(self) -> Iterator[SamePicture]:
        return iter(self.pictures)

    def summary(self) -> str:
        """'' where nothing is shared."""
        if not self.pictures:
            return ""
        many = "1 picture is" if len(self) == 1 else f"{len(self)} pictures are"
        return f"{many} identical: {_some([' = '.join(p.paths) for p in self.pictures])}"


@dataclass(frozen=True)
class SharedInTask:
    """A picture that is support and query of one task: its query rows are answered by heart."""

    task: str
    support: tuple[str, ...]
    query: tuple[str, ...]


@dataclass(frozen=True)
class SharedInTasks:
    """Pictures shared by support and query, in the order of the tasks."""

    pictures: tuple[SharedInTask, ...]

    def __len__(self) -> int:
        return len(self.pictures)

    def __iter__(self) -> Iterator[SharedInTask]:
        return iter(self.pictures)

    def summary(self) -> str:
        """'' where nothing is shared."""
        if not self.pictures:
            return ""
        tasks = len({picture.task for picture in self.pictures})
        named = _some([f"{p.support[0]} = {p.query[0]}" for p in self.pictures])
        return f"{counted(len(self), 'picture is', 'pictures are')} support and query of one task, in {counted(tasks, 'task')}: {named}"


def shared_class_names(*tables: ImageTable) -> SharedClasses:
    """Class names that at least two of ``tables`` have."""
    seen: dict[str, int] = {}
    for table in tables:
        for name in table.class_names:
            seen[name] = seen.get(name, 0) + 1
    return SharedClasses(tuple(name for name, count in seen.items() if count > 1))


def identical_pictures(*tables: ImageTable) -> IdenticalPictures:
    """Pictures, by content, that at least two of ``tables`` hold; copies within one table are not meant.

    Raises:
        DataError: the items of a table are not paths.
    """
    places = [(number, row) for number, table in enumerate(tables) for row in range(len(table))]
    paths = [path for table in tables for path in table.paths()]
    found = []
    for group in _same_content(paths, [number for number, _ in places]):
        shown = tuple(display_name(paths[i]) for i in group)
        found.append(SamePicture(tuple(places[i] for i in group), shown))
    return IdenticalPictures(tuple(found))


def shared_within_tasks(table: ImageTable, episodes: Sequence[Episode]) -> SharedInTasks:
    """Pictures, by content, that one task has in its support and in its query.

    Raises:
        DataError: the items of the table are not paths.
    """
    found = []
    for episode in episodes:
        rows = [*episode.support.ravel().tolist(), *episode.query.ravel().tolist()]
        paths = table.paths(rows)
        middle = len(episode.support)
        for group in _same_content(paths, [int(i >= middle) for i in range(len(rows))]):
            support = tuple(display_name(paths[i]) for i in group if i < middle)
            query = tuple(display_name(paths[i]) for i in group if i >= middle)
            found.append(SharedInTask(episode.name, support, query))
    return SharedInTasks(tuple(found))


def _same_content(paths: Sequence[str], sides: Sequence[int]) -> list[list[int]]:
    """Groups of positions whose files are equal and lie on more than one side, by first position."""
    by_size: dict[int, list[int]] = defaultdict(list)
    for position, path in enumerate(paths):
        try:
            found = os.stat(path)
        except OSError:
            continue
        size = found.st_size if stat.S_ISREG(found.st_mode) else 0
        if size:  # empty files are no pictures, and all alike
            by_size[size].append(position)
    by_content: dict[bytes, list[int]] = defaultdict(list)
    for group in by_size.values():
        if _several(sides, group):
            for position in group:
                digest = _digest(paths[position])
                if digest is not None:
                    by_content[digest].append(position)
    return sorted(group for group in by_content.values() if _several(sides, group))


def _several(sides: Sequence[int], group: Iterable[int]) -> bool:
    return len({sides[position] for position in group}) > 1


def _digest(path: str) -> bytes | None:
    total = hashlib.blake2b(digest_size=16)
    try:
        with open_regular(path) as stream:
            while block := stream.read(_BLOCK):
                total.update(block)
    except OSError:
        return None
    return total.digest()


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
