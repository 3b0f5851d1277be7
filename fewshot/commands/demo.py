"""`fewshot demo`."""

from __future__ import annotations

import dataclasses
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fewshot.commands.common import print_json
from fewshot.limits import Workers
from fewshot.options import ComputeOptions, own_fields_first
from fewshot.registry import COMMANDS


@own_fields_first
@dataclass(frozen=True, kw_only=True)
class Options(ComputeOptions):
    """Draw pictures, train, predict and score: the whole job in minutes, without a download."""

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")] = Path("demo")
    """Where everything goes."""
    workers: Workers | None = None
    """Processes and threads that load pictures; one a core by default."""


@COMMANDS.register("demo", "draw pictures, train, predict and score: the whole job without a download", position=7)
def run(options: Options) -> int:
    """Run the demo, and say what it made."""
    from fewshot.console import duration, percent
    from fewshot.demo.run import QUERIES, SHOTS, TASKS, WAYS, run_demo

    started = time.perf_counter()
    try:
        result = run_demo(
            options.folder,
            options.console,
            seed=options.seed,
            workers=options.workers,
            device=options.device,
            precision=options.precision,
        )
    except BaseException as error:
        if not isinstance(error, Exception):
            print(
                f"the same command goes on from there: fewshot demo {shlex.quote(str(options.folder))}", file=sys.stderr
            )
        raise
    if options.json:
        print_json({key: str(value) if isinstance(value, Path) else value for key, value in _flat(result).items()})
        return 0
    q = shlex.quote
    print(
        f"\n{TASKS} tasks of unseen alphabets, {WAYS}-way {SHOTS}-shot, {QUERIES} queries a class (seed {options.seed}), "
        f"in {duration(time.perf_counter() - started)}:\n"
        f"  before training  {percent(result.before.accuracy, result.before.ci95)}\n"
        f"  after training   {percent(result.after.accuracy, result.after.ci95)}\n\n"
        f"pictures    {result.root / 'pictures'}\n"
        f"tasks       {result.tasks}\n"
        f"truth       {result.truth}\n"
        f"checkpoint  {result.checkpoint}\n"
        f"predictions {result.before_csv} and {result.after_csv}\n\n"
        "the same by hand, and with your own folders:\n"
        f"  fewshot predict {q(str(result.tasks))} result.csv --checkpoint {q(str(result.checkpoint))}\n"
        f"  fewshot score result.csv {q(str(result.truth))}"
    )
    return 0


def _flat(result: object) -> dict[str, object]:
    document = dataclasses.asdict(result)  # type: ignore[call-overload]
    for name in ("before", "after"):
        document[name] = {key: document[name][key] for key in ("accuracy", "ci95", "images", "tasks")}
    return dict(document)
