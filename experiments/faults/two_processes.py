"""Many runs of two processes under load: does each end with status 0, and with what one process gives?

    python -m experiments.faults.two_processes --runs 100 --busy 2

`--busy` processes keep the cores busy meanwhile, so that ranks reach the end at different times, which is when tearing down in the
wrong order shows.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from experiments.faults.kills import SMALL, write_data
from fewshot.run_files import MODEL

_BUSY = "while True: pass"


def _two(words: list[str]) -> subprocess.CompletedProcess[str]:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "fewshot"]
    return subprocess.run([*launch, *words], capture_output=True, text=True, check=False)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else "nothing"


def run() -> int:
    """Run them all; 1 where one ended otherwise than with 0, or two ends differ."""
    parser = argparse.ArgumentParser(prog="python -m experiments.faults.two_processes", description=__doc__)
    parser.add_argument("--runs", type=int, default=100, help="of each command")
    parser.add_argument("--busy", type=int, default=2, help="processes that keep the cores busy meanwhile")
    arguments = parser.parse_args()
    busy = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(arguments.busy)]
    ends: dict[str, Counter[str]] = {"train": Counter(), "predict": Counter()}
    try:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            write_data(root / "data")
            for number in range(arguments.runs):
                output, result = root / f"run{number}", root / f"{number}.csv"
                words = ["train", "--train_data", f"{root}/data/train", "--val_data", f"{root}/data/val", *SMALL]
                done = _two([*words, "--workers", "0", "--output", str(output)])
                ends["train"][f"status {done.returncode}, weights {_digest(output / MODEL)}"] += 1
                _show(done)
                done = _two(["predict", f"{root}/data/tasks", str(result), "--backbone", "tiny", "--no_cache"])
                ends["predict"][f"status {done.returncode}, CSV {_digest(result)}"] += 1
                _show(done)
                print(number + 1, {name: dict(count) for name, count in ends.items()}, flush=True)
    finally:
        for process in busy:
            process.kill()
    sound = all(len(count) == 1 and next(iter(count)).startswith("status 0") for count in ends.values())
    return int(not sound)


def _show(done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode != 0:
        print(done.stderr[-2000:], file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(run())
