"""`python -m experiments.faults.ablations`: an ablation of twelve runs killed at ten random moments, and started again each time.

Every attempt is a process of its own, forked from one that has imported everything, so that moments fall on work and not on imports.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from experiments.__main__ import main
from experiments.engine.results import TABLES, TIMINGS
from experiments.faults.kills import SMALL, write_data

RATES = '''"""Which of four rates?"""
import dataclasses
def configs(base):
    return {f"{rate:g}": dataclasses.replace(base, visual_lr=rate) for rate in (0.0, 1e-4, 1e-3, 1e-2)}
'''


def started(words: list[str], place: Path) -> int:
    """Fork a process that runs the ablation below `place`.

    Args:
        words: Of the command line, without its place.
        place: Runs and caches.

    Returns:
        The process's number.
    """
    sys.stdout.flush()
    number = os.fork()
    if number:
        return number
    try:
        os.environ["FEWSHOT_CACHE"] = str(place / "cache")
        place.mkdir(parents=True, exist_ok=True)
        for stream in (1, 2):
            os.dup2(os.open(place / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        os._exit(main([*words, "--runs", str(place)]))
    except BaseException:
        os._exit(99)


def killed(words: list[str], place: Path, after: float) -> bool:
    """Run, and kill after some seconds; False where it had ended by then."""
    number = started(words, place)
    alarm = threading.Timer(after, os.kill, (number, signal.SIGKILL))
    alarm.start()
    status = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
    alarm.cancel()
    alarm.join()
    return status == -signal.SIGKILL


def finished(words: list[str], place: Path) -> int:
    """Run to the end; the exit status."""
    return os.waitstatus_to_exitcode(os.waitpid(started(words, place), 0)[1])


def tables(place: Path) -> dict[str, pd.DataFrame]:
    """What the ablation came to, without its times."""
    found = {name: pd.read_parquet(place / "rates" / f"{name}.parquet") for name in TABLES}
    return {name: table.drop(columns=[c for c in TIMINGS if c in table]) for name, table in found.items()}


def run(kills: int, seed: int, root: Path) -> int:
    """Kill, start again, and compare with the undisturbed one.

    Args:
        kills: How often.
        seed: Of the moments.
        root: An empty folder.

    Returns:
        0 where the tables are equal.
    """
    write_data(root / "data", pictures=20)
    (root / "rates.py").write_text(RATES, encoding="utf-8")
    data = root / "data"
    words = ["run", str(root / "rates.py"), "--train_data", str(data / "train"), "--val_data", str(data / "val")]
    words += [*SMALL, "--workers", "0", "--seeds", "3", "--test_data", str(data / "val"), "--test_episodes", "20"]
    began = time.monotonic()
    if finished(words, root / "whole") != 0:
        raise RuntimeError(f"it fails undisturbed: {(root / 'whole/said.txt').read_text()}")
    seconds, moments = time.monotonic() - began, np.random.default_rng(seed)
    done, there = 0, []
    while done < kills:
        if killed(words, root / "killed", moments.uniform(0, 2 * seconds / (kills + 2))):
            done += 1
            there.append(len(list(root.glob("killed/runs/*/model.safetensors"))))
        elif done < kills:
            print(f"it ended before the {done + 1}th kill", file=sys.stderr)
            break
    status = finished(words, root / "killed")
    whole, found = tables(root / "whole"), tables(root / "killed")
    differing = [name for name in TABLES if not whole[name].equals(found[name])]
    print(
        f"{len(whole['results'])} rows; undisturbed {seconds:.0f} s; kills {done}, when so many of 12 runs were finished: {there}"
    )
    print(f"last start ended with {status}; tables that differ: {', '.join(differing) or 'none'}")
    return int(bool(differing) or status != 0 or done < kills)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m experiments.faults.ablations", description=__doc__)
    parser.add_argument("--kills", type=int, default=10, help="how often")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        raise SystemExit(run(arguments.kills, arguments.seed, Path(folder)))
