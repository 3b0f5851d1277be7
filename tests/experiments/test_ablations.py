"""Ablations: listed, run, skipped when finished, and reported from their metrics."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.runner import ablations, configs_of
from experiments.tables import collect
from fewshot import TrainConfig

ROOT = Path(__file__).resolve().parents[2]


def experiments(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "experiments", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=dict(os.environ))


def test_every_ablation_asks_a_question_and_differs_from_run_to_run(tmp_path: Path) -> None:
    base = TrainConfig(train_data=tmp_path)
    for name, question in ablations().items():
        assert question.endswith("?") or "?" in question, name
        configs = configs_of(name, base, tmp_path)
        assert len(configs) >= 3
        assert len({config.output for config in configs.values()}) == len(configs)
        settings = [{k: str(v) for k, v in vars(c).items() if k != "output"} for c in configs.values()]
        assert all(a != b for i, a in enumerate(settings) for b in settings[:i])


def test_run_and_report(vit_file: Path, class_folders: Path, other_folders: Path, tmp_path: Path) -> None:
    shared = [
        "--train_data",
        class_folders,
        "--val_data",
        other_folders,
        "--backbone",
        vit_file,
        "--epochs",
        1,
    ]
    shared += ["--unfreeze_blocks", 1, "--batch_size", 24, "--queries", 2, "--workers", 0, "--val_queries", 4]
    shared += ["--val_episodes", 20, "--quiet", "--runs", tmp_path]
    done = experiments("run", "losses", *shared)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("|") and "joint-half-class" in done.stdout
    table = collect(tmp_path)
    assert sorted(table["run"]) == [f"losses/{run}" for run in ("class", "joint", "joint-half-class", "prototypical")]
    assert table["untouched"].nunique() == 1  # one encoder, one set of episodes
    before = (tmp_path / "losses/joint/model.safetensors").stat().st_mtime_ns
    again = experiments("run", "losses", *shared)
    assert again.returncode == 0 and again.stdout == done.stdout
    assert (tmp_path / "losses/joint/model.safetensors").stat().st_mtime_ns == before
    assert experiments("report", tmp_path).stdout.count("losses/") == 4


@pytest.mark.parametrize(("arguments", "status"), [(["run", "nothing", "--train_data", "x"], 2), (["report", "."], 1)])
def test_errors(arguments: list[str], status: int, tmp_path: Path) -> None:
    if arguments[0] == "report":
        arguments = ["report", str(tmp_path)]
    done = experiments(*arguments)
    assert done.returncode == status and "Traceback" not in done.stderr


def test_list_names_the_questions() -> None:
    done = experiments("list")
    assert done.returncode == 0 and all(name in done.stdout for name in ablations())
