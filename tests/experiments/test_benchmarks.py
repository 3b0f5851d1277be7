"""The benchmarks' own arithmetic, material and report; what they measure is never asserted here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from episodes import EpisodeSampler, evaluate, read_task_directory
from experiments.benchmarks import inputs
from experiments.benchmarks.__main__ import NAMES, main
from experiments.benchmarks.encoder import flops_per_picture
from experiments.benchmarks.measure import Row, in_turn, machine, quotients
from experiments.benchmarks.report import markdown
from fewshot import Embeddings, FeatureScorer
from fewshot.classifiers.prototype import Prototype
from fewshot.encoders import load_encoder


def test_sides_are_called_in_turn() -> None:
    called: list[str] = []
    seconds = in_turn({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, 3)
    assert called == ["a", "b"] * 4  # the first pair warms up
    assert [len(values) for values in seconds.values()] == [3, 3]


@pytest.mark.parametrize(
    ("ratios", "bar", "at_most", "reached"),
    [
        ([2, 3, 9], 3, False, True),
        ([2, 2.9, 9], 3, False, False),
        ([1, 1.2, 9], 1.2, True, True),
        ([2], None, False, None),
    ],
)
def test_a_bar_is_compared_with_the_median(
    ratios: list[float], bar: float | None, at_most: bool, reached: bool
) -> None:
    row = Row("x", [1.0], [1.0], "s", "y", ratios, bar, at_most)
    assert row.reached is reached
    line = next(line for line in markdown([row], machine()).splitlines() if line.startswith("| x"))
    assert line.endswith({True: "| yes |", False: "| **no** |", None: "|  |"}[reached])


def test_quotients_go_round_by_round() -> None:
    assert quotients([4.0, 9.0], [2.0, 3.0]) == [2.0, 3.0]


def test_tasks_share_support_and_no_query(tmp_path: Path) -> None:
    root = inputs.tasks(tmp_path / "tasks", 6, width=40, height=32)
    table, episodes = read_task_directory(root)
    assert [(len(e.support), len(e.query), len(e.class_names)) for e in episodes] == [(25, 75, 5)] * 6
    contents = [Path(path).read_bytes() for path in table.paths()]
    queries = [contents[row] for episode in episodes for row in episode.query]
    supports = {contents[row] for episode in episodes for row in episode.support}
    assert len(set(queries)) == 6 * 75 and len(supports) == 100 and not supports & set(queries)


def test_easyfsl_gets_the_same_tasks_and_says_the_same() -> None:
    features = pytest.importorskip("experiments.benchmarks.features")
    from easyfsl.methods import SimpleShot
    from easyfsl.utils import evaluate as theirs

    stored, table = inputs.features(8, 40, 32)
    sampler = EpisodeSampler(table, ways=5, shots=5, queries=15, episodes=30)
    tasks = features.GivenTasks([inputs.rows_by_class(episode) for episode in sampler], 5, 15, 5)
    data = features.FeaturesDataset(table.labels.tolist(), stored, list(table.class_names))
    loader = DataLoader(data, batch_sampler=tasks, collate_fn=tasks.episodic_collate_fn)
    expected = theirs(SimpleShot(torch.nn.Identity()), loader, device="cpu", use_tqdm=False)
    embeddings = Embeddings(stored, torch.ones(len(stored), dtype=torch.bool), {}, 0)
    for classifier in (Prototype(), features.Contract(Prototype())):
        assert evaluate(sampler, FeatureScorer(embeddings, classifier)).mean == pytest.approx(expected, abs=1e-9)
    assert 0.3 < expected < 1


def test_flops_are_those_of_the_products_that_are_made(vit_file: Path) -> None:
    encoder = load_encoder(
        str(vit_file)
    )  # 2 blocks of width 64 on 16 + 1 tokens; of the last only the class token goes on
    width, tokens = 64, 17
    attention = 2 * 2 * width  # a query's products with all keys and with all values, a token
    whole = tokens * (12 * width**2 * 2) + tokens * tokens * attention
    last = tokens * (2 * width**2 * 2) + (10 * width**2 * 2) + tokens * attention
    stem, head = 16 * 3 * 8 * 8 * width * 2, width * 32 * 2
    assert flops_per_picture(encoder) == pytest.approx(whole + last + stem + head, rel=0.01)


def test_the_command_writes_a_table_and_its_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "--only", "indexing", "--output", str(tmp_path / "out")]) == 0
    document = json.loads((tmp_path / "out" / "benchmarks.json").read_text())
    (row,) = document["rows"]
    assert row["ratio"] == pytest.approx(np.median(row["ratios"])) and len(row["ours"]) == len(row["other"]) == 5
    assert document["machine"]["cores"] and "indexing 20,000 files" in (tmp_path / "out" / "benchmarks.md").read_text()
    assert "indexing 20,000 files" in capsys.readouterr().out


def test_a_benchmark_that_cannot_run_is_told_and_the_others_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from experiments.benchmarks import startup

    monkeypatch.setattr(startup, "run", lambda scratch, quick: 1 / 0)
    assert set(NAMES) >= {"startup", "indexing"}
    assert main(["--quick", "--only", "startup", "indexing", "--output", str(tmp_path)]) == 1
    assert "could not run: startup" in capsys.readouterr().err
    assert len(json.loads((tmp_path / "benchmarks.json").read_text())["rows"]) == 1


def test_the_rows_of_a_device(vit_file: Path, tmp_path: Path) -> None:
    """What runs on a GPU, on whatever is at hand."""
    from experiments.benchmarks import gpu

    rows = gpu.measure(tmp_path, True, torch.device("cpu"), vit_file, 64)
    assert [row.unit for row in rows] == ["TFLOP/s", "pictures/s", "s"] and all(row.ratio > 0 for row in rows)
