"""learn2learn's own examples on our folders: all but the lines that make the task sets is theirs, and they learn what is easy to learn."""

from __future__ import annotations

import hashlib
import importlib.util
import random
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples" / "learn2learn"
# Of learn2learn 0.2.0's source distribution: SHA-256 of the script without the lines from the first text to the second.
THEIRS = {
    "anil_fc100": (
        "    # Create Datasets\n",
        "91636ff4a666d5dcd73c44ffb50cffb7f1276133ff8d3ae256c33417d46f7c28",
    ),
    "maml_omniglot": (
        "    from episodes.interop import to_tasksets\n",
        "acfe99a999456b8908602af14ac569c1f132419578c87a5a99c06c9588f8d672",
    ),
}


def module(name: str) -> ModuleType:
    pytest.importorskip("learn2learn.data.task_dataset", reason="learn2learn is not installed (it needs a C compiler)")
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stripes in as many colours as classes; base, val and novel share none."""
    generator = np.random.default_rng(0)
    for label in range(15):
        folder = tmp_path / ("base", "val", "novel")[label // 5] / f"class{label}"
        folder.mkdir(parents=True)
        tone = generator.uniform(60, 195, 3)
        for number in range(6):
            pixels = np.tile(tone, (32, 32, 1)) + generator.normal(0, 40, (32, 32, 3))
            pixels[:: 2 + label] *= 0.6
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", THEIRS)
def test_only_the_lines_that_make_the_task_sets_differ(name: str) -> None:
    text = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    begin, digest = THEIRS[name]
    start, stop = text.index(begin), text.index("\n\n    # Create model\n")
    assert "to_tasksets(" in text[start:stop]
    assert hashlib.sha256((text[:start] + text[stop:]).encode()).hexdigest() == digest


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("anil_fc100", {"shots": 2, "meta_bsz": 2, "iters": 3, "cuda": 0}),
        ("maml_omniglot", {"shots": 2, "meta_batch_size": 2, "num_iterations": 1, "cuda": False}),
    ],
)
def test_they_run_on_our_folders(
    name: str, settings: dict[str, int], folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 (theirs seeds all three)
    try:
        module(name).main(**settings)
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
    told = capsys.readouterr().out
    found = [float(line.split()[-1]) for line in told.splitlines() if line.startswith("Meta Test Accuracy")]
    assert found and found[-1] > (0.5 if name == "anil_fc100" else 0.2)  # by chance 0.2


@pytest.mark.slow
def test_it_is_measured_beside_our_training(
    class_folders: Path,
    other_folders: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("learn2learn.data.task_dataset", reason="learn2learn is not installed (it needs a C compiler)")
    from experiments.learn2learn_example import main

    for name, folder in (("base", class_folders), ("val", other_folders), ("novel", other_folders)):
        (tmp_path / name).symlink_to(folder)
    monkeypatch.setattr("sys.argv", ["learn2learn_example", str(tmp_path), "--epochs", "1", "--tasks", "1"])
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        assert main() == 0
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
    told = capsys.readouterr().out
    assert "3 steps of 1 episodes" in told and Path.cwd() != tmp_path
    rows = [line for line in told.splitlines() if " ± " in line]
    assert [row.split(" | ")[0] for row in rows] == [
        "| learn2learn's example",
        "| ours, --method anil, by prototypes",
        "| ours, --method anil, by its own steps",
        "| ours, --method prototypical, by prototypes",
    ]
