"""The folder of a run: a new one, or with `resume` the unfinished one of the same settings and the same data."""

from __future__ import annotations

import dataclasses
import datetime
import os
import re
from pathlib import Path
from typing import Any

from episodes.errors import DataError, UsageError
from fewshot import run_files
from fewshot.config import FREE_ON_RESUME, TrainConfig


def finished_run(config: TrainConfig) -> Path | None:
    """The folder of the run to resume, if that run is finished already; None where there is work left.

    Something that starts the same command until it is done needs to hear so.

    Args:
        config: Settings of the command.

    Returns:
        The folder of the finished run, or None where there is something to do (or to refuse).

    Raises:
        UsageError: The finished run had other settings.
        DataError: Its config.json cannot be read.
    """
    if not config.resume:
        return None
    if config.output is not None:
        if not run_files.is_finished(config.output):
            return None
        _check_same(config, run_files.read_config(config.output)["settings"], config.output)
        return config.output
    runs = sorted(Path("runs").glob(f"*/{run_files.CONFIG}"), key=_changed, reverse=True)
    if not runs or any(not run_files.is_finished(file.parent) for file in runs):
        return None
    newest = runs[0].parent
    return None if _differences(config, run_files.read_config(newest)["settings"]) else newest


def _changed(file: Path) -> int:
    return file.stat().st_mtime_ns


def output_folder(config: TrainConfig) -> Path:
    """Where the run goes, checked: a new folder, or with `resume` an unfinished run of the same settings.

    Args:
        config: Settings of the run.

    Returns:
        The folder; it is not made here.

    Raises:
        DataError: It holds a finished run, or one that was not asked to be resumed.
        UsageError: The settings differ from those of the run to resume.
    """
    name = re.sub(
        r"[^A-Za-z0-9.]+",
        "-",
        Path(config.backbone).stem
        if os.path.sep in config.backbone and os.path.isfile(config.backbone)
        else config.backbone,
    )
    if config.resume:
        folder = config.output or _newest_unfinished(Path("runs"))
        if run_files.is_finished(folder):
            raise DataError(
                f"{folder}: this run is finished; there is nothing to resume. Predict with it, or train into another --output"
            )
        if not (folder / run_files.CONFIG).exists():
            raise DataError(f"{folder}: there is no run to resume; leave out --resume to start one there")
        if (folder / run_files.RESUME).exists():  # without it nothing was learned yet, and the run starts over
            _check_same(config, run_files.read_config(folder)["settings"], folder)
        return folder
    folder = config.output or Path("runs") / f"{datetime.datetime.now():%Y%m%d-%H%M%S}-{name}"
    place = Path(os.path.realpath(folder))  # not resolve(), which raises where links go in a circle
    for flag, data in (("train_data", config.train_data), ("val_data", config.val_data)):
        if data is not None and Path(os.path.realpath(data)) in (place, *place.parents):
            raise UsageError(f"--output {folder}: lies in --{flag} {data}, among its classes; give a folder elsewhere")
    if run_files.is_finished(folder):
        raise DataError(f"{folder}: holds a finished run, which is never overwritten. Give another --output")
    if (folder / run_files.RESUME).exists():
        raise DataError(f"{folder}: holds an unfinished run. Add --resume to continue it, or give another --output")
    _refuse_of_others(folder)
    return folder


def _refuse_of_others(folder: Path) -> None:
    """Refuse a place where a run's files would overwrite what is none: a log that a scheduler keeps there is left alone.

    Raises:
        DataError: It is no folder, none can be made there, or it holds a config.json or metrics.csv that no run wrote.
    """
    above = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not above.is_dir() and above != folder:
        raise DataError(f"{folder}: lies below {above}, which is a file; give another --output")
    if above.is_dir() and not os.access(above, os.W_OK):
        raise DataError(f"{folder}: {above} cannot be written to; give another --output")
    if os.path.lexists(folder) and not folder.is_dir():
        raise DataError(f"{folder}: is no folder; give another --output")
    if (folder / run_files.CONFIG).exists():
        run_files.read_config(folder)  # of a run that was stopped before it had learned anything: it starts over
    elif (folder / run_files.METRICS).exists():
        raise DataError(f"{folder}: holds a {run_files.METRICS} that no run wrote. Give another --output")


def _newest_unfinished(root: Path) -> Path:
    runs = [path.parent for path in root.glob(f"*/{run_files.CONFIG}") if not run_files.is_finished(path.parent)]
    if not runs:
        raise DataError(
            f"there is no unfinished run below {root}: give the run's folder with --output, or leave out --resume"
        )
    return max(runs, key=lambda path: _changed(path / run_files.CONFIG))


def check_same_data(folder: Path, now: dict[str, Any]) -> None:
    """Compare what config.json says of the pictures with what is there now.

    Args:
        folder: Of the run to resume.
        now: What config.json would say.

    Raises:
        DataError: Classes or numbers of pictures differ: the run could not go on as it began.
    """
    before = run_files.read_config(folder)
    for key in ("class_names", "validation_classes", "pictures"):
        if before.get(key) != now[key]:
            raise DataError(
                f"{folder}: cannot resume, the pictures are not those that the run began with ({key.replace('_', ' ')} differ). Put the "
                "folders back as they were, or train into another --output"
            )


def _check_same(config: TrainConfig, before: dict[str, Any], folder: Path) -> None:
    changed = _differences(config, before)
    if changed:
        raise UsageError(f"{folder}: cannot resume with other settings: {'; '.join(changed)}")


def _differences(config: TrainConfig, before: dict[str, Any]) -> list[str]:
    """Settings that shape what is learned and are not those of a run's config.json, in words."""
    now = config.to_json()
    return [
        f"{key} was {before.get(key)!r}, is {now[key]!r}"
        for key in now
        if key not in FREE_ON_RESUME and _plain(now[key]) != _plain(before.get(key))
    ]


def _plain(value: Any) -> Any:
    """A setting after a round trip through JSON, to compare with config.json."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value
