"""learn2learn's own example of ANIL on our folders: it learns what is easy to learn."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path

import pytest
import torch

from episodes import read_class_folders

EXAMPLE = Path(__file__).parents[1] / "examples" / "learn2learn_anil.py"


def test_the_example_learns_on_our_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("learn2learn.data.task_dataset", reason="learn2learn is not installed (it needs a C compiler)")
    spec = importlib.util.spec_from_file_location("learn2learn_anil", EXAMPLE)
    assert spec is not None and spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    table = read_class_folders(example.drawn(tmp_path / "drawn"))
    states = random.getstate(), torch.get_rng_state()
    try:
        found = example.main(
            table.select_classes(range(5)),
            table.select_classes(range(5, 10)),
            shots=2,
            meta_bsz=2,
            iters=3,
            test_tasks=10,
        )
    finally:
        random.setstate(states[0])
        torch.set_rng_state(states[1])
    assert found > 0.5  # by chance 0.2
    assert "Meta Train Accuracy" in capsys.readouterr().out
