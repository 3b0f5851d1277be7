"""The kills themselves: two of each are tried here, fifty by `python -m experiments.faults`.

Each test runs in an interpreter of its own: what is forked from one whose threads are at work may hang or fail.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.faults.kills import Job, Place, jobs, killed, try_job, write_data

ROOT = Path(__file__).resolve().parents[2]


def alone(name: str, folder: Path) -> None:
    """Call a function of this file in a new interpreter."""
    code = f"from pathlib import Path; from tests.experiments.test_faults import {name}; {name}(Path({str(folder)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def two_kills_of_each(folder: Path) -> None:
    write_data(folder / "data", classes=6)
    for number, job in enumerate(jobs(folder / "data")):
        *_, report = try_job(job, folder / str(number), kills=2, seed=number)
        assert report.kills == 2 and report.lost == 0, job.name


def a_second_run_of_another_command(folder: Path) -> None:
    write_data(folder / "data", classes=4, pictures=5)
    result = next(job for job in jobs(folder / "data") if job.name == "prediction")

    def other(place: Place) -> list[str]:
        return [*result.words(place), "--columns", "image"]

    *_, report = try_job(Job("broken", result.words, other, result.outcome), folder / "runs", kills=1, seed=0)
    assert (report.kills, report.differing, report.failed, report.lost) == (1, 1, 0, 1)


def a_process_that_is_quicker(folder: Path) -> None:
    assert not killed(["--version"], Place(folder), after=600)


@pytest.mark.slow
def test_no_kill_costs_anything_but_time(tmp_path: Path) -> None:
    alone("two_kills_of_each", tmp_path)


def test_a_kill_that_costs_something_is_counted(tmp_path: Path) -> None:
    alone("a_second_run_of_another_command", tmp_path)


def test_a_process_that_is_not_killed_in_time(tmp_path: Path) -> None:
    alone("a_process_that_is_quicker", tmp_path)
