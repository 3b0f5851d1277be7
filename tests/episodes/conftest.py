"""Helpers shared by the tests of the task engine."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from episodes import ImageTable

MakeTree = Callable[..., Path]
MakeTable = Callable[[Sequence[int]], ImageTable]


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
