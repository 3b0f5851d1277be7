"""Helpers shared by the tests of the task engine."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest

from episodes import ImageTable

MakeTree = Callable[..., Path]
MakeTable = Callable[[Sequence[int]], ImageTable]
Forbidden = Callable[[str], AbstractContextManager[None]]


@pytest.fixture
def make_tree(tmp_path: Path) -> MakeTree:
    """Writes files below tmp_path; each holds its own path, so that contents differ."""

    def write(*names: str, root: str = "data") -> Path:
        top = tmp_path / root
        top.mkdir(parents=True, exist_ok=True)
        for name in names:
            path = top / name
            if name.endswith("/"):
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        return top

    return write


@pytest.fixture
def make_table() -> MakeTable:
    """A table without files: classes c0, c1, … of the given sizes."""

    def make(sizes: Sequence[int]) -> ImageTable:
        labels = np.repeat(np.arange(len(sizes)), sizes)
        return ImageTable(range(len(labels)), labels, tuple(f"c{i}" for i in range(len(sizes))))

    return make


@pytest.fixture
def forbidden(monkeypatch: pytest.MonkeyPatch) -> Forbidden:
    """Folders of a name cannot be listed meanwhile; root may list everything, so permissions alone would not show it."""
    real = os.scandir

    @contextmanager
    def forbid(name: str) -> Iterator[None]:
        def scandir(path: str) -> object:
            if os.path.basename(path) == name:
                raise PermissionError(13, "Permission denied", path)
            return real(path)

        with monkeypatch.context() as patched:
            patched.setattr(os, "scandir", scandir)
            yield

    return forbid
