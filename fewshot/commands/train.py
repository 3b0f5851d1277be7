"""`fewshot train`."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

from fewshot.commands.common import print_json
from fewshot.config import TrainConfig as Options
from fewshot.registry import COMMANDS

__all__ = ["Options", "run"]


@COMMANDS.register("train", "fine-tune a backbone on class folders, episode by episode", position=1, every_process=True)
def run(options: Options) -> int:
    """Train, and end with the command that predicts with the result; 3 where some picture could not be read."""
    from fewshot.console import percent
    from fewshot.distributed import is_main_process
    from fewshot.training.loop import train
    from fewshot.training.run_folder import finished_run

    console = options.console
    finished = finished_run(options)
    if finished is not None:
        if is_main_process():
            console.line(f"{finished}: this run is finished; there is nothing left to do")
            if options.json:
                print_json({"path": str(finished), "predict": _predict_command(finished)})
        return 0
    result = train(options, console)
    if not is_main_process():
        return 0
    status = 3 if result.unreadable else 0
    command = _predict_command(result.path)
    if options.json:
        document = dataclasses.asdict(result) | {"path": str(result.path), "predict": command}
        print_json(document)
        return status
    console.line(
        f"validation: untouched {100 * result.untouched_accuracy:.1f} %, kept {percent(result.accuracy, result.ci95)}"
    )
    console.line(f"checkpoint: {result.path}")
    console.line("to name the pictures of a directory of tasks with it:")
    print(command)
    return status


def _predict_command(run: Path) -> str:
    return f"fewshot predict TEST_DIR RESULT.csv --checkpoint {shlex.quote(str(run))}"
