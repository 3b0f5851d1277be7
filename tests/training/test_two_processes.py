"""Two processes of one run: they leave together, and where one is killed the other ends, and the run resumes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fewshot.checkpoint import load_checkpoint
from fewshot.run_files import MODEL, RESUME
from tests.conftest import write_pictures

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads /proc"),
]
ROOT = Path(__file__).resolve().parents[2]
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
AFTERWARDS = """
import sys
from pathlib import Path
import torch
from fewshot.commands.cli import main
status = main(sys.argv[1:])
names = sorted(path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm"))
# One string, one write: torchrun runs python unbuffered, where the parts of a print mix with the other process's.
print(f"LEFT {torch.distributed.is_initialized()} {[name for name in names if 'gloo' in name]}", flush=True)
raise SystemExit(status)
"""


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A training run whose epochs take a part of a second."""
    train = write_pictures(tmp_path / "train", 8, 6)
    val = write_pictures(tmp_path / "val", 6, 6, offset=30)
    return ["train", "--train_data", str(train), "--val_data", str(val), "--backbone", "tiny", "--unfreeze_blocks", "1",
            "--batch_size", "24", "--ways", "4", "--queries", "2", "--val_queries", "2", "--val_episodes", "20",
            "--workers", "0", "--output", str(tmp_path / "run")]  # fmt: skip


def test_no_thread_of_the_process_group_is_left_when_training_ends(words: list[str], tmp_path: Path) -> None:
    script = tmp_path / "afterwards.py"
    script.write_text(AFTERWARDS)
    done = subprocess.run(
        [*LAUNCH, str(script), *words, "--epochs", "1"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("LEFT False []") == 2, done.stdout


@pytest.mark.parametrize("method", ["anil", "maml", "meta-sgd", "protomaml"])
def test_two_processes_learn_by_gradient_steps_what_one_learns(method: str, words: list[str], tmp_path: Path) -> None:
    """Each takes one of the two episodes of a step; the mean of their gradients is that of both, so weights and answers agree."""
    pytest.importorskip("learn2learn.data.task_dataset", reason="learn2learn is not installed (it needs a C compiler)")
    asked = [*words[: words.index("--output")], "--method", method, "--inner_steps", "2", "--epochs", "1", "--mix", "1", "--views", "1",
             "--precision", "32", "--head_warmup", "0", "--dropout", "0"]  # fmt: skip
    for name, launch in (("one", [sys.executable]), ("two", LAUNCH)):
        done = subprocess.run(
            [*launch, "-m", "fewshot", *asked, "--output", str(tmp_path / name)], cwd=ROOT, capture_output=True, text=True, check=False
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    one, two = (load_checkpoint(tmp_path / name) for name in ("one", "two"))
    assert one.own_method is not None and two.own_method is not None
    assert (one.config["processes"], two.config["processes"]) == (1, 2)
    before = one.untouched_encoder().state_dict()
    apart = moved = 0.0
    pairs = zip(one.encoder.state_dict().items(), two.encoder.state_dict().values(), strict=True)
    for (name, ours), theirs in pairs:
        apart, moved = apart + float((ours - theirs).norm()), moved + float((ours - before[name]).norm())
    assert moved > 0 and apart < 0.05 * moved, (apart, moved)
    answers = []
    for launch in ([sys.executable], LAUNCH):
        target = tmp_path / f"{len(launch)}.csv"
        support = tmp_path / "val"
        called = [
            "predict",
            str(target),
            "--support",
            str(support),
            "--query",
            str(min(support.iterdir())),
            "--checkpoint",
            str(one.path),
        ]
        done = subprocess.run(
            [*launch, "-m", "fewshot", *called], cwd=ROOT, capture_output=True, text=True, check=False
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        answers.append(target.read_bytes())
    assert answers[0] == answers[1] and len(answers[0].splitlines()) == 7


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_run_which_resumes(
    rank: int, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    with log.open("w") as file:
        run = subprocess.Popen(
            [*LAUNCH, "-m", "fewshot", *words, "--epochs", "300"], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT
        )
        try:
            while "epoch   2" not in log.read_text():
                assert run.poll() is None, log.read_text()
                time.sleep(0.05)  # between looks, not in place of one
            os.kill(_process(run.pid, rank), signal.SIGKILL)
            status = run.wait(timeout=120)
        finally:
            run.kill()
    text = log.read_text()
    assert status != 0 and f"rank      : {rank}" in text.partition("Root Cause")[2], (
        text
    )  # torchrun names the one that died
    if rank == 1:
        assert f"--output {tmp_path / 'run'} --resume continues" in text, text
    assert (tmp_path / "run" / RESUME).is_file() and not (tmp_path / "run" / MODEL).exists()
    capsys.readouterr()
    settings = (tmp_path / "run" / "config.json").read_text()
    assert '"epochs": 300' in settings
    resumed = subprocess.Popen([*LAUNCH, "-m", "fewshot", *words, "--epochs", "300", "--resume"], cwd=ROOT,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip
    assert resumed.stdout is not None
    seen = []
    for line in resumed.stdout:
        seen.append(line)
        if "epoch   5" in line:
            resumed.terminate()
            break
    resumed.wait(timeout=120)
    assert any("epoch   5" in line for line in seen) and not any("epoch   1/" in line for line in seen), seen


def _process(parent: int, rank: int) -> int:
    """The process id of a rank below torchrun."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = place.joinpath("cmdline").read_bytes().split(b"\0")
            environment = place.joinpath("environ").read_bytes().split(b"\0")
            above = int(place.joinpath("stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if above == parent and f"RANK={rank}".encode() in environment and b"train" in words:
            return int(place.name)
    raise AssertionError(f"no process of rank {rank}")
