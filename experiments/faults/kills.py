"""SIGKILL at random moments of training, caching and prediction, then the same command again: is the end the undisturbed one?

Every run is a process of its own, forked from one that has imported everything, so that moments fall on work and not on imports.
Killed is the process, not the machine: what the kernel holds of written files survives.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from fewshot.commands.cli import main
from fewshot.run_files import MODEL, RESUME

TIMINGS = ("seconds", "images_per_second")  # columns of metrics.csv that no two runs share
SMALL = [
    "--backbone",
    "tiny",
    "--unfreeze_blocks",
    "1",
    "--epochs",
    "3",
    "--batch_size",
    "16",
    "--queries",
    "1",
    "--val_queries",
    "2",
    "--val_episodes",
    "20",
    "--seed",
    "3",
]


@dataclass(frozen=True)
class Place:
    """A folder for one run: what it writes, and its cache."""

    root: Path

    @property
    def run(self) -> Path:
        """What `train` writes."""
        return self.root / "run"

    @property
    def result(self) -> Path:
        """What `predict` writes."""
        return self.root / "result.csv"

    @property
    def cache(self) -> Path:
        """Embeddings and hidden states."""
        return self.root / "cache"


@dataclass(frozen=True)
class Job:
    """A command that is killed.

    Attributes:
        name: in the report.
        words: the command.
        again: what is started after the kill.
        outcome: of what the run left, equal where the runs are.
    """

    name: str
    words: Callable[[Place], list[str]]
    again: Callable[[Place], list[str]]
    outcome: Callable[[Place], str]


@dataclass
class Report:
    """What kills did to a job.

    Attributes:
        kills: how many processes were killed while they ran.
        stages: what the killed process had reached -> how often.
        differing: ends that were not the undisturbed one.
        failed: second runs that did not end with 0.
        litter: temporary files that were left, over all kills.
    """

    kills: int = 0
    stages: Counter[str] = field(default_factory=Counter)
    differing: int = 0
    failed: int = 0
    litter: int = 0

    @property
    def lost(self) -> int:
        """Runs that a kill has cost anything but time."""
        return self.differing + self.failed


def write_data(root: Path, *, classes: int = 8, pictures: int = 8, size: int = 48) -> None:
    """Class folders for training, and tasks to predict: colours and noise."""
    for part, first in (("train", 0), ("val", 100)):
        for label in range(first, first + classes):
            folder = root / part / f"class{label}"
            folder.mkdir(parents=True)
            tone = np.random.default_rng(label).uniform(60, 190, 3)
            for i in range(pictures):
                noise = np.random.default_rng((label, i)).normal(0, 40, (size, size, 3))
                Image.fromarray((tone + noise).clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png")
    tasks = [
        "make-tasks",
        str(root / "val"),
        str(root / "tasks"),
        "--tasks",
        "30",
        "--ways",
        "4",
        "--shots",
        "2",
        "--queries",
        "3",
    ]
    if main([*tasks, "--quiet"]) != 0:
        raise RuntimeError("the tasks cannot be written")


def jobs(data: Path) -> list[Job]:
    """The three that are killed: training, training over stored hidden states, and prediction."""

    def train(*more: str) -> Callable[[Place], list[str]]:
        folders = ["--train_data", str(data / "train"), "--val_data", str(data / "val")]
        return lambda place: ["train", *folders, "--output", str(place.run), *SMALL, *more, "--quiet"]

    def resumed(words: Callable[[Place], list[str]]) -> Callable[[Place], list[str]]:
        # A run that was killed before it had a folder is begun, not resumed.
        return lambda place: [*words(place), *(["--resume"] if place.run.exists() else [])]

    def predict(place: Place) -> list[str]:
        return ["predict", str(data / "tasks"), str(place.result), "--backbone", "tiny", "--quiet"]

    plain, cached = train("--workers", "1"), train("--workers", "0", "--views", "3", "--trunk_cache", "on")
    return [
        Job("training", plain, resumed(plain), trained),
        Job("caching of hidden states", cached, resumed(cached), trained),
        Job("prediction", predict, predict, lambda place: digest(place.result.read_bytes())),
    ]


def digest(data: bytes) -> str:
    """Short, for comparisons."""
    return hashlib.sha256(data).hexdigest()[:16]


def trained(place: Place) -> str:
    """Of the weights and of metrics.csv without its times."""
    with (place.run / "metrics.csv").open(encoding="utf-8", newline="") as stream:
        rows = [[value for name, value in row.items() if name not in TIMINGS] for row in csv.DictReader(stream)]
    return digest((place.run / MODEL).read_bytes() + repr(rows).encode())


def started(words: list[str], place: Place) -> int:
    """Fork a process that runs a command; its number."""
    sys.stdout.flush()
    number = os.fork()
    if number:
        with contextlib.suppress(PermissionError, ProcessLookupError):  # it was quicker, or is gone
            os.setpgid(number, number)
        return number
    try:
        os.setpgid(0, 0)
        os.environ["FEWSHOT_CACHE"] = str(place.cache)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(os.open(place.root / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        os._exit(main(words))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(99)


def finished(words: list[str], place: Place) -> int:
    """Run a command to its end; its exit status."""
    return os.waitstatus_to_exitcode(os.waitpid(started(words, place), 0)[1])


def killed(words: list[str], place: Place, after: float) -> bool:
    """Run a command and kill it after some seconds; False where it had ended by then."""
    number = started(words, place)
    alarm = threading.Timer(after, os.killpg, (number, signal.SIGKILL))
    alarm.start()
    status = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
    alarm.cancel()
    alarm.join()
    return status == -signal.SIGKILL


def stage(place: Place) -> str:
    """How far a killed run had come, by what lies there."""
    if place.result.exists() or (place.run / MODEL).exists():
        return "result written"
    if (place.run / RESUME).exists():
        return "some epochs done"
    if place.run.exists():
        return "folder claimed"
    return "something cached" if place.cache.exists() else "nothing written"


def try_job(job: Job, root: Path, kills: int, seed: int) -> Iterator[Report]:
    """Kill a job again and again, at moments drawn evenly over its length; the report so far, after every kill."""
    whole = Place(root / "whole")
    seconds = []
    for _ in range(2):  # the first one warms files and libraries up
        shutil.rmtree(whole.root, ignore_errors=True)
        whole.root.mkdir(parents=True)
        began = time.monotonic()
        if finished(job.words(whole), whole) != 0:
            raise RuntimeError(f"{job.name} fails undisturbed: {(whole.root / 'said.txt').read_text()}")
        seconds.append(time.monotonic() - began)
    expected, report = job.outcome(whole), Report()
    moments = np.random.default_rng(seed)
    while report.kills < kills:
        place = Place(root / "killed")
        shutil.rmtree(place.root, ignore_errors=True)
        place.root.mkdir(parents=True)
        if not killed(job.words(place), place, moments.uniform(0, min(seconds))):
            continue  # it was faster than the undisturbed one
        report.kills += 1
        report.stages[stage(place)] += 1
        status = finished(job.again(place), place)
        report.failed += status != 0
        report.differing += status == 0 and job.outcome(place) != expected
        report.litter += sum(1 for path in place.root.rglob("*") if path.suffix in (".tmp", ".part"))
        yield report
