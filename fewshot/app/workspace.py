"""What somebody has gathered on the page: classes with their pictures, pictures to name, and what was edited since the last answers.

It knows nothing of HTTP. Uploads lie in a folder of its own; pictures that were loaded from disk stay where they are.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from episodes.decoding import UnreadableImage, read_bytes
from episodes.errors import UsageError
from episodes.files import display_name
from fewshot.app.loading import DEFAULT_TASK, Loaded, read_folder
from fewshot.app.naming import Files, checked_class, checked_picture, distinct, example
from fewshot.app.thumbnail import thumbnail

MOST_PICTURES = 2000
MOST_BYTES, MOST_BYTES_IN_ALL = 64 << 20, 2 << 30  # of one upload, of all of them


@dataclass(frozen=True)
class Picture:
    """One picture: its number, the name that its owner knows, where it lies, and why it cannot be read (None: it can)."""

    id: int
    name: str
    path: Path
    uploaded: bool
    problem: str | None


class Workspace:
    """Classes, pictures to name, and the uploads behind them. `lock` guards every change."""

    def __init__(self, folder: Path) -> None:
        """Begin with nothing.

        Args:
            folder: where uploads, thumbnails and tasks go; made here, and removed by whoever made its parent.
        """
        self.folder = folder
        self.lock = threading.RLock()
        self.classes: dict[str, list[int]] = {}
        self.queries: list[int] = []
        self.pictures: dict[int, Picture] = {}
        self.task_name = DEFAULT_TASK
        self.changes = 0
        self._next = 1
        (folder / "uploads").mkdir(parents=True)

    # ---- adding ----

    def upload_path(self) -> Path:
        """A new place for an upload."""
        with self.lock:
            self._next += 1
            return self.folder / "uploads" / str(self._next)

    def check_room(self, pictures: int, size: int = 0) -> None:
        """Refuse what would go beyond the limits.

        Raises:
            UsageError: too many pictures, or too large an upload.
        """
        if len(self.pictures) + pictures > MOST_PICTURES:
            raise UsageError(
                f"the page holds up to {MOST_PICTURES:,} pictures; these would make {len(self.pictures) + pictures:,}. For more use "
                "fewshot predict, which has no such limit"
            )
        if size > MOST_BYTES:
            raise UsageError(f"the picture has {size:,} bytes; the page takes up to {MOST_BYTES:,}")
        held = sum(path.stat().st_size for path in (self.folder / "uploads").iterdir())
        if held + size > MOST_BYTES_IN_ALL:
            raise UsageError(f"the uploads would be more than {MOST_BYTES_IN_ALL:,} bytes together: remove some first")

    def add_upload(self, place: str | None, name: str, path: Path) -> Picture:
        """Take an uploaded file into a class, or among the pictures to name (None).

        Raises:
            UsageError: the name is no picture's, there is no such class, or there is no room.
        """
        with self.lock:
            self.check_room(1)
            picture = self._new(checked_picture(name), path, uploaded=True)
            self._list(place).append(picture.id)
            self.changes += 1
            return picture

    def load(self, path: str, task: str | None = None) -> list[str]:
        """Take what lies in a folder in place of everything: class folders, or one task of a directory of tasks.

        Returns:
            The names of the tasks to choose from, where there are several and none was named; nothing is loaded then.

        Raises:
            DataError: it cannot be read, or holds neither.
            UsageError: there is no such task, or more pictures than the page takes.
        """
        found = read_folder(path, task)
        if isinstance(found, list):
            return found
        self._replace(found)
        return []

    def draw_example(self) -> None:
        """Five characters in place of everything."""
        with self.lock:
            self.clear()
            known, asked = example(self.folder / "uploads")
            for name, paths in known.items():
                self.classes[name] = [self._new(path.name, path, uploaded=True).id for path in paths]
            self.queries = [self._new(path.name, path, uploaded=True).id for path in asked]

    def _replace(self, found: Loaded) -> None:
        rows = [row for of_class in found.classes.values() for row in of_class] + found.queries
        if len(rows) > MOST_PICTURES:
            raise UsageError(
                f"the page holds up to {MOST_PICTURES:,} pictures; this folder has {len(rows):,}. Use fewshot predict"
            )
        with self.lock:
            self.clear()
            self.task_name = found.task
            paths = [Path(path) for path in found.table.paths(rows)]
            with ThreadPoolExecutor(4) as threads:
                problems = list(threads.map(_problem, paths))
            ids = {
                row: self._keep(Picture(self._next, path.name, path, False, problem)).id
                for row, path, problem in zip(rows, paths, problems, strict=True)
            }
            self.classes = {name: [ids[row] for row in of_class] for name, of_class in found.classes.items()}
            self.queries = [ids[row] for row in found.queries]

    def _new(self, name: str, path: Path, *, uploaded: bool) -> Picture:
        return self._keep(Picture(self._next, name, path, uploaded, _problem(path)))

    def _keep(self, picture: Picture) -> Picture:
        self.pictures[picture.id] = picture
        self._next += 1
        return picture

    # ---- editing ----

    def add_class(self, name: str) -> str:
        """A new class without pictures; its name as it is kept.

        Raises:
            UsageError: no folder can have that name, or there is such a class.
        """
        with self.lock:
            name = checked_class(name)
            if name in self.classes:
                raise UsageError(f"there is a class {name!r} already: add pictures to it")
            self.classes[name] = []
            self.changes += 1
            return name

    def rename_class(self, old: str, new: str) -> None:
        """Another name for a class, in its place.

        Raises:
            UsageError: there is no such class, or the new name cannot be or is taken.
        """
        with self.lock:
            new = checked_class(new)
            self._list(old)
            if new != old and new in self.classes:
                raise UsageError(f"there is a class {new!r} already: move the pictures there instead")
            self.classes = {new if name == old else name: ids for name, ids in self.classes.items()}
            self.changes += 1

    def remove_class(self, name: str) -> None:
        """Remove a class and its pictures."""
        with self.lock:
            self.remove(list(self._list(name)))
            del self.classes[name]

    def move(self, ids: Sequence[int], place: str | None) -> None:
        """Move pictures into a class, or among those to name (None); they come last there."""
        with self.lock:
            target = self._list(place)
            self._known(ids)
            for of_place in (*self.classes.values(), self.queries):
                of_place[:] = [number for number in of_place if number not in set(ids)]
            target.extend(ids)
            self.changes += 1

    def remove(self, ids: Sequence[int]) -> None:
        """Remove pictures; of an upload its file too, of a picture on disk only the mention."""
        with self.lock:
            self._known(ids)
            for of_place in (*self.classes.values(), self.queries):
                of_place[:] = [number for number in of_place if number not in set(ids)]
            for number in ids:
                picture = self.pictures.pop(number)
                if picture.uploaded:
                    picture.path.unlink(missing_ok=True)
            self.changes += 1

    def clear(self) -> None:
        """Remove everything."""
        with self.lock:
            self.classes, self.queries, self.pictures, self.task_name = {}, [], {}, DEFAULT_TASK
            shutil.rmtree(self.folder / "uploads")
            (self.folder / "uploads").mkdir()
            self.changes += 1

    def _list(self, place: str | None) -> list[int]:
        if place is None:
            return self.queries
        if place not in self.classes:
            raise UsageError(f"there is no class {place!r} any more: reload the page")
        return self.classes[place]

    def _known(self, ids: Iterable[int]) -> None:
        if any(number not in self.pictures for number in ids):
            raise UsageError("one of these pictures is no longer there: reload the page")

    # ---- telling ----

    def files(self, ids: Sequence[int]) -> Files:
        """(own name, where it lies) of pictures."""
        return [(self.pictures[number].name, self.pictures[number].path) for number in ids]

    @property
    def document(self) -> dict[str, Any]:
        """Everything, as the page shows it; names are those that the result's CSV will have."""
        with self.lock:
            return {
                "classes": [{"name": name, "pictures": self._shown(ids)} for name, ids in self.classes.items()],
                "queries": self._shown(self.queries),
                "changes": self.changes,
                "limit": MOST_PICTURES,
            }

    def _shown(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        names = distinct(self.pictures[number].name for number in ids)
        return [
            {"id": number, "name": display_name(name), "problem": self.pictures[number].problem}
            for number, name in zip(ids, names, strict=True)
        ]


def _problem(path: Path) -> str | None:
    """Why a file cannot be read as a picture; None where it can."""
    try:
        thumbnail(read_bytes(path))
    except UnreadableImage as error:
        return str(error)
    return None
