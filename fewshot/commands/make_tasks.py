"""`fewshot make-tasks`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from episodes.errors import UsageError
from episodes.wording import counted
from fewshot.commands.common import print_json
from fewshot.limits import Count, CountOrRangeText, Seed
from fewshot.options import OutputOptions, own_fields_first
from fewshot.registry import COMMANDS


@own_fields_first
@dataclass(frozen=True, kw_only=True)
class Options(OutputOptions):
    """Write a directory of tasks (testB/task*/support/<class>/*, testB/task*/query/*) and its truth.csv."""

    data_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA_DIR")]
    """Class folders."""
    out_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT_DIR")]
    """Where testB/ and truth.csv go."""
    tasks: Count = 20
    """How many tasks."""
    ways: CountOrRangeText = "5"
    """Classes a task; 5-20 draws anew for each task."""
    shots: CountOrRangeText = "5"
    """Support pictures a class; 1-10 draws anew for each task."""
    queries: Count = 15
    """Query pictures a class."""
    nested: bool = False
    """Class folders lie deeper: DATA_DIR/<group>/<class>/<picture>."""
    defuse_formulas: bool = False
    """Put ' before names in truth.csv that a spreadsheet would compute: those that begin with = + - @, a tab or a line's end."""
    seed: Seed = 0
    """Every random choice follows from it."""


@COMMANDS.register("make-tasks", "write a directory of tasks, with its truth, from class folders", position=4)
def run(options: Options) -> int:
    """Sample episodes and write them."""
    from episodes import EpisodeSampler, read_class_folders, write_task_directory
    from episodes.ranges import parse_range

    console, place = options.console, Path(os.path.realpath(options.out_dir))
    if Path(os.path.realpath(options.data_dir)) in place.parents:
        raise UsageError(f"{options.out_dir}: lies in {options.data_dir}, among its classes; give a folder elsewhere")
    table = read_class_folders(options.data_dir, nested=options.nested)
    console.line(f"{options.data_dir}: {table.summary()}")
    if table.passed_over.summary():
        console.line(f"  {table.passed_over.summary()}")
    sampler = EpisodeSampler(
        table,
        ways=parse_range(options.ways, "ways"),
        shots=parse_range(options.shots, "shots"),
        queries=options.queries,
        seed=options.seed,
        episodes=options.tasks,
    )
    root = Path(
        write_task_directory(
            table, sampler, options.out_dir, seed=options.seed, defuse_formulas=options.defuse_formulas
        )
    )
    if options.json:
        print_json({"tasks": options.tasks, "testB": str(root / "testB"), "truth": str(root / "truth.csv")})
    else:
        print(f"{root / 'testB'}: {counted(options.tasks, 'task')}; the truth is in {root / 'truth.csv'}")
    return 0
