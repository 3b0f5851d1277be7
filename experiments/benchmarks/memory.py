"""Peak memory of predicting many tasks against few, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from experiments.benchmarks.inputs import tasks
from experiments.benchmarks.measure import Row

# The kernel's high-water mark of this program alone: getrusage begins with the peak of the process that started it.
_PREDICT = (
    "import sys; from fewshot.commands.cli import main\n"
    "status = main(sys.argv[1:])\n"
    "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
    "print(peak.split()[1], file=sys.stderr); sys.exit(status)"
)


def run(scratch: Path, quick: bool) -> list[Row]:
    """The embedded encoder, whose own size hides least; small pictures, so that there can be 30,000 of them."""
    counts = (40, 4) if quick else (400, 40)
    peaks = {}
    for count in counts:
        root = tasks(scratch / f"small-tasks-{count}", count, width=96, height=72)
        arguments = ["predict", str(root), str(scratch / "result.csv"), "--backbone", "tiny", "--no_cache", "--quiet"]
        done = subprocess.run([sys.executable, "-c", _PREDICT, *arguments], capture_output=True, text=True, check=True)
        peaks[count] = int(done.stderr.split()[-1]) / 1024  # the kernel counts in KiB
    many, few = counts
    return [
        Row(f"peak memory of predict, {many} tasks", [peaks[many]], [peaks[few]], "MiB", f"{few} tasks",
            [peaks[many] / peaks[few]], 1.2, True, f"{many * 75 + 100:,} distinct pictures against {few * 75 + 100:,}")
    ]  # fmt: skip
