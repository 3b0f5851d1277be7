"""What experiments that measure row by row share: rows printed as they come, written as CSV and as a page; the way a command ends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import tyro

from episodes import DataError, UsageError

Row = TypeVar("Row")
Arguments = TypeVar("Arguments")


def write_measured(
    rows: Iterable[Row], output: Path, name: str, said: Callable[[Row], str], report: Callable[[pd.DataFrame], str]
) -> pd.DataFrame:
    """Print each row as it is measured, then write all of them and their report.

    Args:
        rows: Dataclasses; they may take minutes to come.
        output: Folder of ``<name>.csv`` and ``<name>.md``; made where it is not there.
        name: Of both files.
        said: The line that is printed of a row.
        report: Makes the Markdown of all rows.

    Returns:
        All rows.
    """
    output.mkdir(parents=True, exist_ok=True)
    found = []
    for row in rows:
        found.append(asdict(row))  # type: ignore[call-overload]
        print(said(row), flush=True)
    frame = pd.DataFrame(found)
    frame.to_csv(output / f"{name}.csv", index=False)
    text = report(frame)
    (output / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)
    return frame


def run_command(name: str, arguments: type[Arguments], run: Callable[[Arguments], Any], text: str | None) -> int:
    """Parse the arguments and run; 1 for bad input and 2 for wrong settings, each with its message.

    Args:
        name: Said before a message.
        arguments: A dataclass.
        run: Called with its instance.
        text: Description for `--help`.
    """
    try:
        run(tyro.cli(arguments, description=text, use_underscores=True))
    except (DataError, UsageError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0
