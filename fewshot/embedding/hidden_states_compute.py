"""Hidden states computed: every view of every picture through the blocks that never change, once, into a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from episodes.decoding import UnreadableImage
from episodes.errors import DataError
from fewshot.device import Precision
from fewshot.distributed import leave_signals_to_parent
from fewshot.embedding.batches import FixedShapeBatches
from fewshot.embedding.file_digest import make_file
from fewshot.embedding.hidden_states import ROW, HiddenStates, HiddenStatesKey, hidden_like, hidden_states_bytes, trunk
from fewshot.embedding.hidden_states_store import evict, note_of, stored_hidden_states, write_note
from fewshot.encoders.base import VisionEncoder
from fewshot.images.augmented_views import PictureSource
from fewshot.images.reading_board import ReadingBoard


def compute_hidden_states(
    root: Path,
    key: HiddenStatesKey,
    n_frozen: int,
    encoder: VisionEncoder,
    source: PictureSource,
    *,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> HiddenStates:
    """Run every view of every picture through the trunk and store what comes out; written aside and moved into place.

    Where a trunk of the same pictures behind fewer blocks is stored, the blocks in between go on from that: the same bits, without
    reading a picture.

    Args:
        root: folder of the trunks.
        key: of this one.
        n_frozen: blocks to run.
        encoder: on the device that computes.
        source: the pictures, with the views that `key` names.
        workers: processes that load pictures.
        progress: told (pictures done, n).

    Raises:
        DataError: the disk is full.
    """
    root.mkdir(parents=True, exist_ok=True)
    like = hidden_like(encoder, n_frozen, key.precision)
    note = note_of(root, key, n_frozen)
    beside = root / f".{note.stem}.{os.getpid()}.part"
    try:
        make_file(beside, hidden_states_bytes(key, like))
        shallower = stored_hidden_states(root, key, n_frozen)
        if shallower is None:
            problems = _fill(beside, key, n_frozen, encoder, source, workers, progress)
        else:
            problems = _go_on(beside, shallower, n_frozen, encoder, key.precision, progress)
        os.replace(beside, note.with_suffix(".bin"))
        write_note(note, like, problems)
    except OSError as error:
        raise DataError(
            f"{root}: the frozen trunk cannot be stored ({error}). Make room, or use --trunk_cache off"
        ) from error
    finally:
        beside.unlink(missing_ok=True)
    evict(root, keep_stem=note.stem)
    stored = stored_hidden_states(root, key, n_frozen)
    if stored is None:
        raise DataError(f"{note}: was just written but cannot be read. Use --trunk_cache off")
    return stored


def _fill(
    path: Path,
    key: HiddenStatesKey,
    n_frozen: int,
    encoder: VisionEncoder,
    source: PictureSource,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> dict[int, str]:
    """Write the hidden states into a file of their size; row -> what is wrong with the picture, of unreadable ones."""
    expected = key.n_pictures * key.views
    problems: dict[int, str] = {}
    size, precision = key.batch_size, key.precision
    board = ReadingBoard(workers)
    with (
        board.naming_deaths(source.items),
        _rows_of(path, expected) as keep,
        FixedShapeBatches(encoder, trunk(n_frozen), keep, size=size, expected=expected, precision=precision) as batches,
    ):
        for done, (row, pictures, problem) in enumerate(_loaded(source, workers, board), start=1):
            if problem is not None:
                problems[row] = problem
            for view in range(0 if pictures is None else key.views):
                batches.add(row * key.views + view, pictures[view])
            if progress is not None:
                progress(done, key.n_pictures)
    return problems


def _go_on(
    path: Path,
    shallower: HiddenStates,
    n_frozen: int,
    encoder: VisionEncoder,
    precision: Precision,
    progress: Callable[[int, int], None] | None,
) -> dict[int, str]:
    """What `_fill` writes and returns, from hidden states behind fewer blocks."""
    expected = len(shallower) * shallower.views

    def between(copied: VisionEncoder, hidden: Tensor) -> Tensor:
        return copied.forward_blocks(hidden, shallower.n_frozen, n_frozen)

    with (
        _rows_of(path, expected) as keep,
        FixedShapeBatches(
            encoder, between, keep, size=shallower.batch_size, expected=expected, precision=precision
        ) as batches,
    ):
        for row in range(len(shallower)):
            for view in range(0 if row in shallower.problems else shallower.views):
                place = row * shallower.views + view
                batches.add(place, shallower.read(place))
            if progress is not None:
                progress(row + 1, len(shallower))
    return dict(shallower.problems)


@contextmanager
def _rows_of(path: Path, count: int) -> Iterator[Callable[[list[int], Tensor], None]]:
    """Writes hidden states to their places of a file that has its size already."""
    mapped = np.memmap(path, dtype=ROW, mode="r+")
    rows = mapped.reshape(count, -1)

    def keep(places: list[int], hidden: Tensor) -> None:
        rows[places] = hidden.contiguous().flatten(1).view(torch.uint8).numpy()

    yield keep
    mapped.flush()


class _Views(Dataset[tuple[int, Any, Any]]):
    """row -> (row, (V, 3, H, W) views or None, problem or None)."""

    def __init__(self, source: PictureSource, board: ReadingBoard) -> None:
        self._source, self._board = source, board

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, row: int) -> tuple[int, Any, Any]:
        self._board.note(row)
        try:
            return row, self._source.views(row), None
        except UnreadableImage as error:
            return row, None, str(error)


def _loaded(source: PictureSource, workers: int, board: ReadingBoard) -> DataLoader[tuple[int, Any, Any]]:
    return DataLoader(
        _Views(source, board),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=16 if workers else None,
        worker_init_fn=leave_signals_to_parent,
        generator=torch.Generator(),  # its base seed would otherwise come from the global generator
    )
