"""python -m experiments.benchmarks [--quick] [--only NAME ...] [--output DIR]: every row of docs/benchmarks.md."""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from experiments.benchmarks.measure import Row, machine
from experiments.benchmarks.report import markdown, write

NAMES = (
    "startup",
    "processes",
    "cold",
    "indexing",
    "sampling",
    "tasksets",
    "features",
    "encoder",
    "lite",
    "encoders",
    "training",
    "ablations",
    "predicting",
    "encoder_bound",
    "memory",
    "gpu",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmarks, print the table and write it; 1 where one of them could not run."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmarks", description="Speed beside the other side's."
    )
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer rounds: a few minutes")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"), help="folder of the JSON and the table")
    parser.add_argument(
        "--scratch", type=Path, help="where to make weights and pictures, kept; a temporary folder otherwise"
    )
    arguments = parser.parse_args(argv)
    rows: list[Row] = []
    failed = []
    found = machine()
    with tempfile.TemporaryDirectory(prefix="fewshot-benchmarks-") as temporary:
        scratch = arguments.scratch or Path(temporary)
        scratch.mkdir(parents=True, exist_ok=True)
        for name in arguments.only:
            started = time.perf_counter()
            try:
                new = importlib.import_module(f"experiments.benchmarks.{name}").run(scratch, arguments.quick)
            except Exception:  # the other rows are worth having
                traceback.print_exc()
                failed.append(name)
                continue
            rows += new
            print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
            write(rows, found, arguments.output)
    print(markdown(rows, found))
    if failed:
        print(f"could not run: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
