"""The folders of a run: read, checked against each other, and split."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from episodes import ImageTable, read_class_folders, read_task_directory
from episodes.decoding import UnreadableImage, decode, read_bytes
from episodes.errors import DataError, UsageError
from episodes.files import display_name
from episodes.ranges import upper
from episodes.wording import counted
from fewshot.config import TrainConfig
from fewshot.console import Console
from fewshot.encoders.leakage import pretraining_warning
from fewshot.training.held_out import Split, split_of, split_validation

_Part = tuple[Path, ImageTable]


def default_workers(workers: int | None) -> int:
    """The default number of loading processes: one a core, at most 8."""
    return min(8, os.cpu_count() or 1) if workers is None else workers


def refuse_beyond_memory(batch: int, image_size: int, device: torch.device) -> None:
    """Refuse a batch whose pictures alone are more than the memory holds, before anything is computed.

    Args:
        batch: Pictures a step on this device.
        image_size: Pictures are (3, image_size, image_size) float32.
        device: Where they go.

    Raises:
        UsageError: They do not fit; says how many would.
    """
    each = 3 * image_size * image_size * 4
    if device.type == "cuda":
        memory = int(torch.cuda.mem_get_info(device)[1])
    else:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if batch * each > memory:
        raise UsageError(
            f"batch_size: {batch} pictures of {image_size} x {image_size} take {batch * each / 2**30:,.1f} GiB a step, and {device} has "
            f"{memory / 2**30:,.1f} GiB: at most {memory // each} would fit before anything is computed of them, so give far fewer"
        )


def read_split(config: TrainConfig, console: Console) -> Split:
    """Training and validation pictures; says what was passed over, and what the folders share.

    Raises:
        DataError: a folder is missing or empty, no picture can be read, or `strict` and the folders share classes or pictures.
    """
    train = _read(config, config.train_data, console)
    parts = [(config.train_data, train)]
    if config.val_data is None:
        asked = config.val_ways if config.val_ways != TrainConfig.val_ways else 0
        leave = 2 if config.way_range is None else upper(config.way_range)
        shots = config.val_shots or upper(config.shot_range)
        split = split_validation(train, config.seed, shots, at_least=asked, leave=leave)
    else:
        validation = _read(config, config.val_data, console)
        parts.append((config.val_data, validation))
        split = split_of(train, validation, config.val_data)
    apart = [*parts, *((folder, _read_measured(folder, config)) for folder in config.test_data)]
    for number, part in enumerate(parts, start=1):
        _guard(part, apart[number:], config, console)
    console.line(split.note)
    for what, table in (
        (f"validation of {parts[-1][0]}", split.validation),
        *((str(f), t) for f, t in apart[len(parts) :]),
    ):
        seen = pretraining_warning(what, config.backbone, table.class_names)
        if seen is not None:
            console.warn(seen)
    if config.strict:
        _refuse_unreadable(split, config)
    for what, table in (("training", split.train), ("validation", split.validation)):
        _refuse_all_unreadable(what, table)
    return split


def _refuse_all_unreadable(what: str, table: ImageTable) -> None:
    """Look for one picture that can be read; in a folder that is not broken it is the first.

    Raises:
        DataError: there is none.
    """
    problem = "there are none"
    for item in table.items:
        try:
            decode(read_bytes(item))
            return
        except UnreadableImage as error:
            problem = f"{display_name(str(item))}: {error}"
    raise DataError(
        f"none of the {len(table)} {what} pictures can be read ({problem}). Mend them, or give another folder; nothing was written"
    )


def _refuse_unreadable(split: Split, config: TrainConfig) -> None:
    """Decode every picture before anything is trained or written.

    Raises:
        DataError: some cannot be read; names the first few.
    """

    def problem(item: Any) -> str | None:
        try:
            decode(read_bytes(item))
        except UnreadableImage as error:
            return f"{display_name(str(item))} ({error})"
        return None

    items = [*split.train.items, *split.validation.items]
    with ThreadPoolExecutor(max(1, default_workers(config.workers))) as pool:
        found = [text for text in pool.map(problem, items) if text is not None]
    if found:
        raise DataError(
            f"{counted(len(found), 'picture')} cannot be read: {'; '.join(found[:5])}. Mend or remove them, or go without "
            "--strict; nothing was written"
        )


def _read(config: TrainConfig, root: os.PathLike[str], console: Console) -> ImageTable:
    table = read_class_folders(root, nested=config.nested, min_images=config.min_images)
    console.line(f"{root}: {table.summary()}")
    if table.passed_over.summary():
        console.line(f"  {table.passed_over.summary()}")
    return table


def _guard(part: _Part, others: Sequence[_Part], config: TrainConfig, console: Console) -> None:
    """Tell, or with `strict` refuse, classes and pictures that a folder shares with others."""
    from episodes.leakage import identical_pictures, shared_class_names

    for folder, table in others:
        shared = (shared_class_names(part[1], table), identical_pictures(part[1], table))
        found = [both.summary() for both in shared if both]
        if found:
            text = (
                f"{part[0]} and {folder}: {'; '.join(found)}; what is measured on {folder} will look better than it is"
            )
            if config.strict:
                raise DataError(f"{text}. Separate them, or go without --strict")
            console.warn(text)


def _read_measured(root: Path, config: TrainConfig) -> ImageTable:
    """Read a folder of `--test_data`: class folders, or a directory of tasks."""
    from fewshot.evaluation import is_task_directory

    if is_task_directory(root):
        return read_task_directory(root, find_truth=False)[0]
    return read_class_folders(root, nested=config.nested)
