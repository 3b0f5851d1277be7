"""A million paths in little memory: folders once, names beside them, ``Path`` objects on demand.

A list of ``Path`` objects costs several hundred bytes a picture; this costs its name.
"""

import operator
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np


class PathList(Sequence[Path]):
    """Paths as (folder, name): ``folders[folder_of[i]] / names[i]``.

    Args:
        folders: the distinct folders, as strings.
        folder_of: (n,) number of the folder of each path.
        names: (n,) file names.
    """

    __slots__ = ("folder_of", "folders", "names")

    def __init__(self, folders: Sequence[str], folder_of: Any, names: Sequence[str]) -> None:
        self.folders = tuple(folders)
        self.folder_of: np.ndarray[Any, np.dtype[np.int32]] = np.asarray(folder_of, dtype=np.int32)
        self.names = names
        if len(self.folder_of) != len(names):
            raise ValueError(f"{len(self.folder_of)} folder numbers for {len(names)} names")

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> "PathList": ...
    def __getitem__(self, index: int | slice) -> "Path | PathList":
        if isinstance(index, slice):
            return self.take(range(*index.indices(len(self))))
        return Path(self.string(index))

    def __iter__(self) -> Iterator[Path]:
        return (Path(self.string(i)) for i in range(len(self)))

    def __repr__(self) -> str:
        return f"<PathList of {len(self)} paths in {len(self.folders)} folders>"

    def string(self, index: int) -> str:
        """Path ``index`` as a string: several times cheaper than the ``Path``."""
        position = operator.index(index)
        return os.path.join(self.folders[self.folder_of[position]], self.names[position])

    def strings(self, rows: Iterable[int] | None = None) -> list[str]:
        """The paths ``rows`` (default: all) as strings."""
        return [self.string(row) for row in (range(len(self)) if rows is None else rows)]

    def take(self, rows: Iterable[int]) -> "PathList":
        """The paths ``rows``, in that order; folders that are no longer used stay listed."""
        picked = np.fromiter((operator.index(row) for row in rows), dtype=np.int64)
        return PathList(self.folders, self.folder_of[picked], [self.names[row] for row in picked.tolist()])
