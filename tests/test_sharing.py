"""Several processes predict as one: the same bytes, and no picture encoded twice."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from episodes import EpisodeSampler, read_class_folders, write_task_directory

ROOT = Path(__file__).resolve().parents[1]
SHARES = """
import json, sys
from pathlib import Path
from fewshot import embed_images, load_encoder
from fewshot.sharing import embed_shared, process_group, rank_and_world

encoder, items = load_encoder(sys.argv[1]), sorted(Path(sys.argv[2]).rglob("*.*"))
with process_group():
    found = embed_shared(encoder, items, batch_size=4)
if rank_and_world()[0] == 0:
    alone = embed_images(encoder, items, batch_size=4)
    same = bool((alone.features == found.features).all() and (alone.readable == found.readable).all())
    print(json.dumps([same, alone.computed, found.computed, alone.problems == found.problems, len(found.problems)]))
else:
    assert found is None
"""


@pytest.fixture
def tasks(other_folders: Path, tmp_path: Path) -> Path:
    table = read_class_folders(other_folders)
    sampler = EpisodeSampler(table, ways=4, shots=2, queries=3, episodes=5)  # pictures that several tasks share
    return Path(write_task_directory(table, sampler, tmp_path / "tasks")) / "testB"


def together(processes: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes, *arguments]
    return subprocess.run([str(c) for c in command], cwd=ROOT, capture_output=True, text=True)


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
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "three.csv").read_bytes()
    assert done.stdout.count("pictures of 5 tasks named") == 1 and (tmp_path / "page.html").is_file()


def test_every_distinct_picture_is_encoded_once(vit_file: Path, tasks: Path, tmp_path: Path) -> None:
    queries = tasks / "task1" / "query"
    first = sorted(queries.iterdir())[0]
    shutil.copy(first, queries / "again.png")
    (queries / "broken.png").write_bytes(b"no picture")
    (queries / "broken_too.png").write_bytes(b"no picture")
    script = tmp_path / "shares.py"
    script.write_text(SHARES)
    done = together(2, script, vit_file, tasks)
    assert done.returncode == 0, done.stderr
    same, alone, shared, same_problems, problems = json.loads(done.stdout.splitlines()[-1])
    assert same and same_problems and problems == 2 and alone == shared > 8


def test_what_is_not_shared_is_done_by_one(tasks: Path, other_folders: Path, tmp_path: Path) -> None:
    done = together(
        2, "-m", "fewshot", "make-tasks", other_folders, tmp_path / "out", "--tasks", 2, "--shots", 2, "--queries", 2
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("2 tasks") == 1
