"""The same rows over Ray as one after the other, with a worker killed in the middle; a search."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from episodes.errors import UsageError
from experiments.engine.ablation import Ablation, Measure
from experiments.engine.measure import TestPlan
from experiments.engine.ray_backend import RayBackend
from experiments.engine.results import TIMINGS
from experiments.engine.run import run_ablation
from experiments.engine.search import search
from fewshot import TrainConfig
from fewshot.console import Console
from tests.conftest import write_pictures

pytestmark = pytest.mark.slow
QUIET = Console(quiet=True)


@pytest.fixture
def base(small_run: TrainConfig) -> TrainConfig:
    pytest.importorskip("ray")
    return dataclasses.replace(small_run, output=None, epochs=3, val_episodes=20)


@pytest.fixture
def tests(tmp_path: Path) -> TestPlan:
    return TestPlan((write_pictures(tmp_path / "new", 6, 8, offset=40),), episodes=12, ways=3, shots=(1, 3), queries=4)


def rates(base: TrainConfig) -> dict[str, TrainConfig]:
    return {f"{rate:g}": dataclasses.replace(base, visual_lr=rate) for rate in (1e-4, 1e-3, 1e-2)}


RATES = Ablation("rates", "Which rate?", rates, {"": Measure()})


SPACE = '''"""Which rate, and how many blocks?"""
def space(tune):
    return {"visual_lr": tune.loguniform(1e-5, 1e-2), "unfreeze_blocks": tune.choice([1, 2])}
'''


def same(a: pd.DataFrame, b: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(*(t.drop(columns=[c for c in TIMINGS if c in t]) for t in (a, b)))


def test_the_same_rows_with_a_worker_killed_in_the_middle(base: TrainConfig, tests: TestPlan, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        expected, _ = run_ablation(RATES, base, tmp_path / "alone", QUIET, seeds=2, tests=tests)
    finally:
        torch.set_num_threads(threads)
    killed: list[int] = []
    watching = threading.Thread(target=_kill_first_worker, args=(tmp_path / "ray", killed))
    watching.start()
    found, _ = run_ablation(
        RATES, base, tmp_path / "ray", QUIET, seeds=2, tests=tests, backend=RayBackend("auto", cpus=1)
    )
    watching.join()
    assert len(killed) == 1
    same(found.results, expected.results)
    same(found.episodes, expected.episodes)
    same(found.comparisons, expected.comparisons)
    assert found.note == expected.note


def _kill_first_worker(root: Path, killed: list[int]) -> None:
    """Kill the process that holds the first run's folder, as soon as that run has a state to resume from."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        for state in root.glob("runs/*/resume.safetensors"):
            for process in Path("/proc").glob("[0-9]*/fd/*"):
                try:
                    holds = os.readlink(process) == str(state.parent / ".lock")
                except OSError:
                    continue
                if holds:
                    killed.append(int(process.parts[2]))
                    os.kill(killed[0], signal.SIGKILL)
                    return
        time.sleep(0.01)  # between two looks, not for something to be ready


def test_a_search(base: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SPACE)
    table, path = search(tmp_path / "mine.py", base, tmp_path / "runs", QUIET, trials=4, backend=RayBackend())
    assert len(table) == 4 and path.is_file() and table["val_accuracy"].is_monotonic_decreasing
    best = table.iloc[0]
    metrics = pd.read_csv(tmp_path / "runs/runs" / best["run"] / "metrics.csv")
    assert metrics["val_accuracy"][metrics["kind"] == "epoch"].iloc[int(best["epoch"]) - 1] == pytest.approx(
        best["val_accuracy"], abs=1e-6
    )


def test_nonsense_is_named(base: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text('def space(tune):\n    return {"rate": tune.uniform(0, 1)}\n')
    with pytest.raises(UsageError, match="names rate"):
        search(tmp_path / "mine.py", base, tmp_path, QUIET, trials=1, backend=RayBackend())
    with pytest.raises(UsageError, match="cannot connect"):
        RayBackend("127.0.0.1:1")([], {}, TestPlan(), QUIET)
