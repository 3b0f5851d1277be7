"""What it costs to be told how to use the program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from experiments.benchmarks.measure import Row, in_turn, quotients

_LOADED = (
    "import sys; from fewshot.commands.cli import main\n"
    "try: main({arguments!r})\n"
    "except SystemExit: pass\n"
    "print(*sorted({{'torch', 'pandas'}} & set(sys.modules)), file=sys.stderr)"
)


def run(scratch: Path, quick: bool) -> list[Row]:
    """`fewshot --help` and `fewshot train --help` against an empty program."""
    commands = {"--help": ["--help"], "train --help": ["train", "--help"]}

    def call(*arguments: str) -> str:
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)
        return done.stderr

    sides = {name: lambda a=a: call("-m", "fewshot", *a) for name, a in commands.items()}
    seconds = in_turn({"pass": lambda: call("-c", "pass"), **sides}, 5 if quick else 15)
    rows = []
    for name, arguments in commands.items():
        loaded = call("-c", _LOADED.format(arguments=arguments)).split()
        rows.append(
            Row(f"fewshot {name}", seconds[name], seconds["pass"], "s", "python -c pass", quotients(seconds[name], seconds["pass"]),
                25.0, True, f"imports {', '.join(loaded)}" if loaded else "imports neither torch nor pandas")
        )  # fmt: skip
    return rows
