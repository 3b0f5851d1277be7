"""Writing task directories from any episodes: a testB to practise on, with its truth beside it.

Query names, their order and their times give nothing away.
"""

import csv
import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from episodes.counter_random import random_bits
from episodes.episode import Episode
from episodes.errors import DataError
from episodes.files import copy_regular, display_name, folder_name, numbered_name, plain_suffix
from episodes.formulas import defuse
from episodes.table import ImageTable

_SAME_TIME = 315_532_800  # 1980-01-01: one time for every query, so that times tell nothing
StrPath = str | os.PathLike[str]


def write_task_directory(
    table: ImageTable, episodes: Sequence[Episode], root: StrPath, *, seed: int = 0, defuse_formulas: bool = False
) -> Path:
    """Write ``root/testB/task1…`` with copies of the pictures, and ``root/truth.csv`` (``task,image,label``).

    A class name with ``/`` becomes one folder name (``Greek%2Fcharacter01``), which the truth uses too. All
    is built beside ``root`` and moved there at the end.

    Args:
        table: pictures on disk.
        episodes: with query labels.
        root: a new folder, or an empty one.
        seed: of the order in which queries are numbered.
        defuse_formulas: put ``'`` before names in the truth that a spreadsheet would compute.

    Returns:
        ``root``.

    Raises:
        DataError: ``root`` holds something already, there are no episodes, an episode hides its query labels,
            or a picture cannot be copied.
    """
    target = Path(os.path.abspath(root))
    if not len(episodes):
        raise DataError("write_task_directory needs at least one episode, found none")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{display_name(str(target))} already holds something; give a new folder, or an empty one")
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    try:
        beside.mkdir()
        truth = [("task", "image", "label")]
        for number, episode in enumerate(episodes, 1):
            name = f"task{number}"
            truth += [(name, *row) for row in _write_task(table, episode, beside / "testB" / name, (seed, number))]
        if defuse_formulas:
            truth = [(task, image, defuse(label)) for task, image, label in truth]
        with open(beside / "truth.csv", "x", encoding="utf-8", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows(truth)
        if target.exists():
            target.rmdir()
        os.rename(beside, target)
    except BaseException as error:
        shutil.rmtree(beside, ignore_errors=True)
        if isinstance(error, OSError):
            place = display_name(str(error.filename or target))
            raise DataError(f"cannot write the tasks: {place}: {error.strerror or error}") from error
        raise
    return Path(root)


def _write_task(table: ImageTable, episode: Episode, folder: Path, key: tuple[int, int]) -> list[tuple[str, str]]:
    """Write one task; returns (image, label) of its queries in the order of their names."""
    labels = episode.query_labels
    if labels is None or labels.min() < 0:
        raise DataError(f"episode {episode.name} does not tell all its query labels, so its truth cannot be written")
    classes = [folder_name(name) for name in episode.class_names]
    for label, class_folder in enumerate(classes):
        _copy_support(
            table.paths(episode.support[episode.support_labels == label].tolist()),
            folder / "support" / class_folder,
        )
    order = sorted(range(len(episode.query)), key=lambda place: random_bits("query order", *key, place))
    (folder / "query").mkdir(parents=True)
    rows = []
    for number, place in enumerate(order, 1):
        (source,) = table.paths([int(episode.query[place])])
        name = numbered_name(number, len(order), plain_suffix(source))
        copy_regular(source, folder / "query" / name)
        os.utime(folder / "query" / name, (_SAME_TIME, _SAME_TIME))
        rows.append((name, display_name(classes[int(labels[place])])))
    return rows


def _copy_support(sources: Sequence[str], folder: Path) -> None:
    folder.mkdir(parents=True)
    for number, source in enumerate(sources, 1):
        name = os.path.basename(source)
        if (folder / name).exists():  # pictures of one name from different folders
            name = f"{number}-{name}"
        copy_regular(source, folder / name)
