"""What the documents show is what runs: the user's own ablation, and the scripts for SLURM."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from experiments.__main__ import main
from tests.conftest import write_pictures

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_ablation_that_the_documents_show(
    vit_file: Path, class_folders: Path, other_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (DOCS / "ablations.md").read_text(encoding="utf-8")
    shown = re.search(r"`my_question\.py`:\n\n```python\n(.*?)```", text, re.DOTALL)
    assert shown is not None
    (tmp_path / "my_question.py").write_text(shown.group(1))
    new = write_pictures(tmp_path / "new", 5, 20, seed=3, offset=70)
    flags = ["--train_data", class_folders, "--val_data", other_folders, "--backbone", vit_file, "--unfreeze_blocks", 1]
    flags += [
        "--epochs",
        1,
        "--batch_size",
        24,
        "--queries",
        2,
        "--workers",
        0,
        "--val_queries",
        4,
        "--val_episodes",
        20,
        "--quiet",
    ]
    flags += ["--test_data", new, "--runs", tmp_path / "runs", "--test_episodes", 5]
    assert main(["run", str(tmp_path / "my_question.py"), *map(str, flags)]) == 0
    told = capsys.readouterr().out
    assert "Does smoothing the classifier's targets help?" in told
    assert all(f"| {name} |" in told for name in ("untouched", "none", "a little", "a lot"))


@pytest.fixture
def commands(tmp_path: Path) -> dict[str, str]:
    """An environment in which SLURM's, Ray's and torch's commands only write down how they were called."""
    for name in ("scontrol", "srun", "torchrun", "ray", "python", "sleep"):
        script = tmp_path / "bin" / name
        script.parent.mkdir(exist_ok=True)
        both_began = f'until [ "$(grep -c "ray start" {tmp_path}/called)" -ge 2 ]; do :; done'
        answer = {
            "python": both_began,
            "scontrol": "echo node1; echo node2",
            "srun": 'case "$*" in *hostname*) echo 10.0.0.1 10.0.0.2;; esac',
        }
        script.write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/called\n{answer.get(name, ":")}\n')
        script.chmod(0o755)
    slurm = {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_NNODES": "2", "SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "8"}
    return {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", **slurm, "SLURM_GPUS_ON_NODE": "2"}


def test_the_script_of_a_training_run_resumes_what_was_begun(commands: dict[str, str], tmp_path: Path) -> None:
    run = ["bash", str(DOCS / "slurm/train.sbatch"), "--train_data", "a b", "--output", str(tmp_path / "run")]
    for begun in (False, True):
        if begun:
            (tmp_path / "run").mkdir()
            (tmp_path / "run/resume.safetensors").touch()
        (tmp_path / "called").unlink(missing_ok=True)
        subprocess.run(run, env=commands, check=True)
        called = (tmp_path / "called").read_text()
        assert f"-m fewshot train --train_data a b --output {tmp_path / 'run'}" in called and "node1:29500" in called
        assert "--nproc_per_node=2" in called and ("--resume" in called) == begun
    assert subprocess.run(run[:-2], env=commands, check=False, capture_output=True).returncode == 2


def test_the_script_of_an_ablation_starts_ray_on_every_node(commands: dict[str, str], tmp_path: Path) -> None:
    subprocess.run(["bash", str(DOCS / "slurm/ablation.sbatch"), "losses", "--seeds", "3"], env=commands, check=True)
    called = (tmp_path / "called").read_text().splitlines()
    assert any("--nodelist=node1 ray start --head" in line for line in called)
    assert any("--exclude=node1 ray start --address=10.0.0.1:6379" in line for line in called)
    assert any(line.startswith("python -m experiments run losses --seeds 3 --ray 10.0.0.1:6379") for line in called)
