"""`fewshot train`."""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from episodes.errors import UsageError
from fewshot.commands.common import print_json
from fewshot.commands.outputs import check_outputs
from fewshot.config import TrainConfig
from fewshot.options import own_fields_first
from fewshot.registry import COMMANDS

if TYPE_CHECKING:
    from fewshot.console import Console

__all__ = ["Options", "run"]
_PAGES = (".html", ".png", ".svg", ".pdf")


@own_fields_first
@dataclass(frozen=True, kw_only=True)
class Options(TrainConfig):
    """Fine-tune a backbone on class folders, episode by episode."""

    report: Path | None = None
    """Write how the run went there too, with its learning curves: .html with the numbers, or .png, .svg, .pdf."""

    @property
    def config(self) -> TrainConfig:
        """The settings alone: a checkpoint does not depend on where it is told of."""
        return TrainConfig(**{field.name: getattr(self, field.name) for field in dataclasses.fields(TrainConfig)})


@COMMANDS.register("train", "fine-tune a backbone on class folders, episode by episode", position=1, every_process=True)
def run(options: Options) -> int:
    """Train, and end with the command that predicts with the result; 3 where some picture could not be read."""
    from fewshot.console import accuracy_of
    from fewshot.distributed import is_main_process
    from fewshot.training.loop import train
    from fewshot.training.run_folder import finished_run

    if options.report is not None:
        if options.report.suffix.lower() not in _PAGES:
            raise UsageError(f"--report {options.report}: expected a file name that ends in {', '.join(_PAGES)}")
        check_outputs({"--report": options.report}, (options.train_data, options.val_data, *options.test_data))
    console, config = options.console, options.config
    finished = finished_run(config)
    if finished is not None:
        if is_main_process():
            console.line(f"{finished}: this run is finished; there is nothing left to do")
            _write_report(options, finished, console)
            if options.json:
                print_json({"path": str(finished), "predict": _predict_command(finished)})
        return 0
    result = train(config, console)
    if not is_main_process():
        return 0
    _write_report(options, result.path, console)
    status = 3 if result.unreadable else 0
    command = _predict_command(result.path)
    if options.json:
        document = dataclasses.asdict(result) | {"path": str(result.path), "predict": command}
        print_json(document)
        return status
    console.line(
        f"validation: untouched {100 * result.untouched_accuracy:.1f} %, kept "
        f"{accuracy_of(result.accuracy, result.ci95, result.pictures)}"
    )
    console.line(f"checkpoint: {result.path}")
    if (result.path / "tensorboard").is_dir():
        console.line(f"curves: tensorboard --logdir {shlex.quote(str(result.path / 'tensorboard'))}")
    console.line("to name the pictures of a directory of tasks with it:")
    print(command)
    return status


def _write_report(options: Options, run_folder: Path, console: Console) -> None:
    if options.report is not None:
        from fewshot.report import write_training_plot

        write_training_plot(run_folder, options.report)
        console.line(f"report: {options.report}")


def _predict_command(run: Path) -> str:
    return f"fewshot predict TEST_DIR RESULT.csv --checkpoint {shlex.quote(str(run))}"
