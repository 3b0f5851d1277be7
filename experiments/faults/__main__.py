"""`python -m experiments.faults --kills 50`: the table of what kills cost."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from experiments.faults.kills import jobs, try_job, write_data


def run() -> int:
    """Try every job; 1 where a kill has cost something."""
    parser = argparse.ArgumentParser(prog="python -m experiments.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="of each job")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lost = 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_data(root / "data")
        print(
            "| run | kills | had reached | second run failed | end differs | files left over |\n|---|---|---|---|---|---|"
        )
        for number, job in enumerate(jobs(root / "data")):
            *_, report = try_job(job, root / f"job{number}", arguments.kills, arguments.seed + number)
            lost += report.lost
            reached = ", ".join(f"{name} {count}" for name, count in report.stages.most_common())
            print(
                f"| {job.name} | {report.kills} | {reached} | {report.failed} | {report.differing} | {report.litter} |",
                flush=True,
            )
    print(f"lost: {lost}")
    return int(lost > 0)


if __name__ == "__main__":
    raise SystemExit(run())
