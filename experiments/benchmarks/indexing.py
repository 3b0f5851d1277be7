"""Indexing class folders, against a bare recursive os.scandir over the same files."""

from __future__ import annotations

import os
from pathlib import Path

from episodes import read_class_folders
from experiments.benchmarks.measure import Row, in_turn, quotients


def run(scratch: Path, quick: bool) -> list[Row]:
    """200 folders of empty files: what they hold does not matter to a listing."""
    count = 20_000 if quick else 200_000
    root = scratch / f"files-{count}"
    if not root.exists():
        for folder in range(200):
            (root / f"class{folder}").mkdir(parents=True)
            for file in range(count // 200):
                (root / f"class{folder}" / f"picture{file:05d}.jpg").touch()

    def ours() -> None:
        assert len(read_class_folders(root)) == count

    def bare() -> None:
        assert _count(str(root)) == count

    seconds = in_turn({"ours": ours, "bare": bare}, 5)
    return [
        Row(f"indexing {count:,} files", seconds["ours"], seconds["bare"], "s", "bare recursive os.scandir",
            quotients(seconds["ours"], seconds["bare"]), 4.0, True, "with classes in natural order, rows in plain order")
    ]  # fmt: skip


def _count(path: str) -> int:
    total = 0
    with os.scandir(path) as entries:
        for entry in entries:
            total += _count(entry.path) if entry.is_dir(follow_symlinks=False) else 1
    return total
