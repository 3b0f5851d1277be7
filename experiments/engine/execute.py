"""One run: done once, resumed where it was killed, kept with its error where it failed, measured when it is finished."""

from __future__ import annotations

import dataclasses
import json
import os
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from episodes.errors import DataError, UsageError
from episodes.files import atomic_write
from experiments.engine.ablation import Measure
from experiments.engine.cost import costs, let_go
from experiments.engine.identity import RESULTS_VERSION, circumstances, data_fingerprint
from experiments.engine.measure import TestPlan, measure_run, measure_untouched, untouched_folder
from experiments.engine.plan import PlannedRun
from fewshot import train
from fewshot.console import Console
from fewshot.run_files import RESUME, is_finished

RECORD, ERROR, _LOCK = "run.json", "error.txt", ".lock"


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Attributes:
        run: Which.
        status: Whether it was done now, was there already, or failed.
        error: What went wrong, in a line.
    """

    run: PlannedRun
    status: Literal["done", "there already", "failed"]
    error: str = ""


def execute(run: PlannedRun, measures: Mapping[str, Measure], tests: TestPlan, console: Console) -> Outcome:
    """Train what is not finished yet, and measure what was not measured yet. A failure is kept and returned, not raised.

    Args:
        run: What to do.
        measures: How to measure it.
        tests: On what.
        console: Tells what is done.

    Returns:
        What became of it.
    """
    folder = run.folder
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        try:
            there = is_finished(folder)
            if not there:
                console.line(f"{run.title}:")
                _train(run, console)
            else:
                console.line(f"{run.title}: finished already")
            measure_run(run, measures, tests, console)
            _measure_untouched(run, measures, tests, console)
        except Exception as error:
            with atomic_write(folder / ERROR) as file:
                file.write(traceback.format_exc())
            told = str(error) if isinstance(error, (DataError, UsageError)) else f"{type(error).__name__}: {error}"
            console.warn(f"{run.title} failed: {told}; kept in {folder / ERROR}, the others go on")
            return Outcome(run, "failed", told)
        (folder / ERROR).unlink(missing_ok=True)
    return Outcome(run, "there already" if there else "done")


def _measure_untouched(run: PlannedRun, measures: Mapping[str, Measure], tests: TestPlan, console: Console) -> None:
    folder = untouched_folder(run)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        measure_untouched(run, measures, tests, console)


def _train(run: PlannedRun, console: Console) -> None:
    folder = run.folder
    data = {name: data_fingerprint(path) for name in ("train_data", "val_data") if (path := getattr(run.config, name))}
    record: dict[str, Any] = {"digest": run.digest, "results_version": RESULTS_VERSION, "data": data} | circumstances()
    _write_record(folder, record)
    let_go()  # what the run before left is none of this one's memory
    with costs() as cost:
        train(dataclasses.replace(run.config, resume=(folder / RESUME).is_file()), console)
    _write_record(folder, record | cost.to_json())


def _write_record(folder: Path, record: dict[str, Any]) -> None:
    with atomic_write(folder / RECORD) as file:
        json.dump(record, file, indent=2)


def record_of(folder: Path) -> dict[str, Any]:
    """What was recorded of a run beside its settings; without its costs where it was killed just before they were written."""
    try:
        return dict(json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the run's folder: a second process that wants the same run waits, and finds it finished. A killed one lets go."""
    try:
        import fcntl
    except ImportError:  # Windows: whoever starts the same ablation twice at a time does work twice
        yield
        return
    handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
