"""The kills themselves: two of each are tried here, fifty by `python -m experiments.faults`."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.faults.kills import Job, Place, jobs, killed, try_job, write_data


@pytest.mark.slow
def test_no_kill_costs_anything_but_time(tmp_path: Path) -> None:
    write_data(tmp_path / "data", classes=6)
    for number, job in enumerate(jobs(tmp_path / "data")):
        *_, report = try_job(job, tmp_path / str(number), kills=2, seed=number)
        assert report.kills == 2 and report.lost == 0, job.name


def test_a_kill_that_costs_something_is_counted(tmp_path: Path) -> None:
    """A job that goes on from half of what it wrote: the report must show it."""
    write_data(tmp_path / "data", classes=4, pictures=5)
    result = next(job for job in jobs(tmp_path / "data") if job.name == "prediction")

    def other(place: Place) -> list[str]:
        return [*result.words(place), "--columns", "image"]

    *_, report = try_job(Job("broken", result.words, other, result.outcome), tmp_path / "runs", kills=1, seed=0)
    assert (report.kills, report.differing, report.failed, report.lost) == (1, 1, 0, 1)


def test_a_process_that_is_not_killed_in_time(tmp_path: Path) -> None:
    assert not killed(["--version"], Place(tmp_path), after=600)
