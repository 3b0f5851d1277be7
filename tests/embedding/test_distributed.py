"""Several processes predict as one: the same bytes, and no picture encoded twice."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from episodes import EpisodeSampler, read_class_folders, write_task_directory
from tests.conftest import write_pictures

ROOT = Path(__file__).resolve().parents[2]
SHARES = """
import json, sys
from pathlib import Path
from fewshot import embed_images, load_encoder
from fewshot.distributed import rank_and_world
from fewshot.distributed import process_group
from fewshot.embedding.distributed import embed_distributed

encoder, items = load_encoder(sys.argv[1]), sorted(Path(sys.argv[2]).rglob("*.*"))
with process_group():
    found = embed_distributed(encoder, items, batch_size=4)
if rank_and_world()[0] == 0:
    alone = embed_images(encoder, items, batch_size=4)
    same = bool((alone.features == found.features).all() and (alone.readable == found.readable).all())
    print(json.dumps([same, alone.computed, found.computed, alone.problems == found.problems, len(found.problems)]))
else:
    assert found is None
"""


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """Pictures that several tasks share, enough of them that each of three processes gets a batch of 128."""
    table = read_class_folders(write_pictures(tmp_path / "pictures", 10, 45))
    sampler = EpisodeSampler(table, ways=10, shots=5, queries=8, episodes=5)
    return Path(write_task_directory(table, sampler, tmp_path / "tasks")) / "testB"


def together(processes: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([str(c) for c in command], cwd=ROOT, capture_output=True, text=True, env=environment)


def test_three_processes_write_what_one_writes(vit_file: Path, tasks: Path, tmp_path: Path) -> None:
    single = [
        sys.executable,
        "-m",
        "fewshot",
        "predict",
        tasks,
        tmp_path / "one.csv",
        "--backbone",
        vit_file,
        "--no_cache",
    ]
    assert subprocess.run([str(c) for c in single], cwd=ROOT, capture_output=True).returncode == 0
    shared = [
        "predict",
        tasks,
        tmp_path / "three.csv",
        "--backbone",
        vit_file,
        "--no_cache",
        "--report",
        tmp_path / "page.html",
    ]
    done = together(3, "-m", "fewshot", *shared)
    assert done.returncode == 0, done.stderr
    assert len({path.read_bytes() for path in tasks.rglob("*.png")}) > 2 * 128
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "three.csv").read_bytes()
    assert done.stdout.count("pictures of 5 tasks named") == 1 and (tmp_path / "page.html").is_file()


def test_every_distinct_picture_is_encoded_once(vit_file: Path, resnet_file: Path, tasks: Path, tmp_path: Path) -> None:
    """By each of two encoders that work together, which share no batches."""
    queries = tasks / "task1" / "query"
    first = sorted(queries.iterdir())[0]
    shutil.copy(first, queries / "again.png")
    (queries / "broken.png").write_bytes(b"no picture")
    (queries / "broken_too.png").write_bytes(b"no picture")
    script = tmp_path / "shares.py"
    script.write_text(SHARES)
    done = together(2, script, f"{vit_file}+{resnet_file}", tasks)
    assert done.returncode == 0, done.stderr
    same, alone, shared, same_problems, problems = json.loads(done.stdout.splitlines()[-1])
    assert same and same_problems and problems == 2 and alone == shared > 8


@pytest.mark.parametrize("variables", [{"RANK": "1"}, {"RANK": ""}, {"RANK": "0", "WORLD_SIZE": "1"}])
def test_only_several_processes_are_several(
    variables: dict[str, str], vit_file: Path, tasks: Path, tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "fewshot",
        "predict",
        tasks,
        tmp_path / "result.csv",
        "--backbone",
        vit_file,
        "--no_cache",
    ]
    done = subprocess.run([str(c) for c in command], cwd=ROOT, capture_output=True, env={**os.environ, **variables})
    assert done.returncode == 0 and (tmp_path / "result.csv").is_file()


def test_processes_that_cannot_meet_are_told_so(vit_file: Path, tasks: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fewshot", "predict", tasks, tmp_path / "result.csv", "--backbone", vit_file]
    environment = {**os.environ, "RANK": "0", "WORLD_SIZE": "2"}
    done = subprocess.run([str(c) for c in command], cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 2 and "torchrun" in done.stderr and "Traceback" not in done.stderr


def test_what_is_not_shared_is_done_by_one(tasks: Path, other_folders: Path, tmp_path: Path) -> None:
    done = together(
        2, "-m", "fewshot", "make-tasks", other_folders, tmp_path / "out", "--tasks", 2, "--shots", 2, "--queries", 2
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("2 tasks") == 1
