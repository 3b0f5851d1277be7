"""`python -m experiments list | run NAME | report DIR | claims`: ablations of the training and the page of claims, from the checkout."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from episodes.errors import DataError, UsageError
from fewshot.config import TrainConfig


@dataclass(frozen=True)
class List:
    """Name the ablations and the questions they ask."""


@dataclass(frozen=True)
class Run:
    """Run one ablation; finished runs are skipped, cut off ones go on."""

    name: Annotated[str, tyro.conf.Positional]
    """Which; see list."""
    base: Annotated[TrainConfig, tyro.conf.arg(name="")] = field()
    """Settings that all its runs share."""
    runs: Path = Path("runs/ablations")
    """Where the runs go."""


@dataclass(frozen=True)
class Report:
    """Table of the finished runs below a folder."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Where they are."""


@dataclass(frozen=True)
class Claims:
    """Measure what the program claims against the truth, and write docs/claims.md."""

    data: Path
    """Folder that holds the image sets as class folders: tin, omniglot, grocery, pacs."""
    only: tuple[str, ...] = ()
    """Claims (modules of experiments/claims) to measure anew, while the other sections stay as they are; all by default."""
    page: Path = Path("docs/claims.md")
    """Where the page goes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse and run one of them."""
    command = tyro.cli(List | Run | Report | Claims, prog="python -m experiments", use_underscores=True, args=arguments)
    try:
        if isinstance(command, Claims):
            from experiments.claims.runner import measure_claims

            measure_claims(command.data, only=command.only, page=command.page)
        elif isinstance(command, Run):
            from experiments.runner import run_ablation
            from experiments.tables import collect, to_markdown
            from fewshot.console import Console

            run_ablation(command.name, command.base, command.runs, Console(command.base.quiet))
            print(to_markdown(collect(command.runs / command.name)))
        elif isinstance(command, Report):
            from experiments.tables import collect, to_markdown

            print(to_markdown(collect(command.folder)))
        else:
            from experiments.runner import ablations

            for name, question in ablations().items():
                print(f"{name:<16}{question}")
        return 0
    except UsageError as error:
        print(f"experiments: {error}", file=sys.stderr)
        return 2
    except DataError as error:
        print(f"experiments: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
