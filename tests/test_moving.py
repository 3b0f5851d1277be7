"""docs/moving.md: every block runs, one after the other, on small folders."""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path

import pytest
import torch

from fewshot.classifiers import CLASSIFIER_NAMES

PAGE = Path(__file__).parents[1] / "docs" / "moving.md"


def test_every_block_runs(
    class_folders: Path, other_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("learn2learn.data.task_dataset", reason="learn2learn is not installed (it needs a C compiler)")
    pytest.importorskip("easyfsl")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 9
    shutil.copytree(class_folders, tmp_path / "base")
    shutil.copytree(other_folders, tmp_path / "novel")
    monkeypatch.chdir(tmp_path)
    random.seed(0)
    names: dict[str, object] = {}
    with torch.random.fork_rng():
        for number, block in enumerate(blocks):
            exec(compile(block, f"block {number} of {PAGE.name}", "exec"), names)
    assert (tmp_path / "run" / "model.safetensors").is_file()
    accuracy = names["accuracy"]
    assert isinstance(accuracy, float) and 0 <= accuracy <= 1


def test_the_table_names_what_there_is() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in ("prototype", "simpleshot", "bdcspn", "laplacianshot", "tim", "ptmap"):
        assert (name in CLASSIFIER_NAMES and f"`{name}`" in text) or f'"{name}"' in text
