"""`python -m experiments.faults.mutants`: faults put into the engine, the losses and the classifiers one by one; are they noticed?

mutmut makes the mutants and runs the tests that reach each (settings in pyproject.toml). All of them take hours on two cores, so a
seeded sample of them is tried, in a copy of the working tree; its interval is said. `--all` tries every one.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_COPIED = (
    "episodes",
    "fewshot",
    "experiments",
    "tests",
    "docs",
    "README.md",
    "CONTRIBUTING.md",
    "pyproject.toml",
    "setup.cfg",
)
SURVIVED, UNTESTED = 0, 33  # exit codes in mutmut's notes; None has not been tried, all others are kills


def copy_tree(into: Path) -> None:
    """What mutmut needs of the working tree."""
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, into / name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        else:
            shutil.copyfile(source, into / name)


def codes(folder: Path) -> dict[str, int | None]:
    """Mutant -> exit code, of all that mutmut has made."""
    found: dict[str, int | None] = {}
    for path in sorted((folder / "mutants").rglob("*.meta")):
        found |= json.loads(path.read_text())["exit_code_by_key"]
    return found


def mutmut(folder: Path, *names: str) -> None:
    """Try these mutants; the environment's own copy of the packages must not be found first."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "mutmut", "run", *names], cwd=folder, env=environment, check=False)


def sampled(names: list[str], size: int, seed: int) -> list[str]:
    """A seeded sample, the same from the same tree."""
    return random.Random(seed).sample(sorted(names), min(size, len(names)))


def interval(killed: int, tried: int) -> float:
    """Half the width of the 95 % interval of a share."""
    share = killed / tried
    return 1.96 * math.sqrt(share * (1 - share) / tried)


def run() -> int:
    """Make mutants, try them, print the table and the survivors."""
    parser = argparse.ArgumentParser(prog="python -m experiments.faults.mutants", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the copy goes; started again, it goes on from there")
    parser.add_argument("--sample", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--all", action="store_true", help="every mutant: hours")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    copy_tree(arguments.folder)
    if not codes(arguments.folder):
        mutmut(arguments.folder, "episodes.ranges*")  # makes all, and learns which tests reach which
    names = list(codes(arguments.folder))
    chosen = names if arguments.all else sampled(names, arguments.sample, arguments.seed)
    mutmut(arguments.folder, *chosen)
    found = codes(arguments.folder)
    tried = [name for name in chosen if found[name] is not None]
    left = [name for name in tried if found[name] in (SURVIVED, UNTESTED)]
    for name in left:
        print(name)
    killed = len(tried) - len(left)
    print(f"{killed} of {len(tried)} killed: {killed / len(tried):.1%} ± {interval(killed, len(tried)):.1%}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run())
