"""Frozen-trunk cache: what the blocks that never change make of every view of every picture, computed once, memory-mapped.

n pictures, V views of each. A file is keyed by everything that its values depend on: pictures' bytes, weights, transform,
augmentation and its seed, precision, device type, batch shape, torch version. Hidden states are stored in the precision in which
they are computed (bfloat16 under bf16, float32 under 32), so nothing is rounded. A file behind fewer blocks serves a run with
more frozen ones, which goes on from there. HiddenStateCache lie beside the cache of embeddings, and those longest unused go first.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from episodes.errors import DataError
from fewshot.device import Precision
from fewshot.distributed import leave_signals_to_parent
from fewshot.embedding.batches import NO_EMBEDDING, FixedShapeBatches, default_batch_size, usable_rows
from fewshot.embedding.embed import Embeddings, cache_space
from fewshot.embedding.file_digest import file_digest, make_file
from fewshot.encoders.base import VisionEncoder
from fewshot.images.augmentation import Augmentation
from fewshot.images.augmented_views import PictureSource, view_of
from fewshot.images.decoding import UnreadableImage, read_bytes
from fewshot.images.reading_board import ReadingBoard
from fewshot.images.transform import normalise

MAX_BYTES = 64 << 30  # kept in the cache folder, over all trunks
_ABANDONED = 7 * 86_400  # seconds after which a file that nobody writes to is what a killed run left
_DIGEST = "digest"  # in a trunk's note: of its file, and of the note itself
_ROW = np.uint8  # files are mapped as bytes: numpy has no bfloat16


@dataclass(frozen=True, eq=False)
class HiddenStatesKey:
    """What a trunk's values depend on, apart from the number of blocks; `batch_size` and `precision` are needed to make it."""

    digest: str
    n_pictures: int
    views: int
    precision: Precision
    batch_size: int


def hidden_states_key(
    encoder: VisionEncoder,
    items: Sequence[Any],
    *,
    views: int | None = None,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    precision: Precision = "auto",
) -> HiddenStatesKey:
    """Reads every picture's bytes, once. Args: encoder: with the weights from before training. views: None is the test transform."""
    size = default_batch_size(encoder)
    digest = hashlib.sha256(cache_space(encoder, precision, size))
    if views is not None:
        settings = dataclasses.asdict(augmentation) if augmentation is not None else None
        digest.update(json.dumps([views, seed, settings]).encode())
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        for part in pool.map(_picture_digest, items):
            digest.update(part)
    return HiddenStatesKey(digest.hexdigest()[:32], len(items), views or 1, precision, size)


def _picture_digest(item: Any) -> bytes:
    try:
        return hashlib.blake2b(read_bytes(item), digest_size=20).digest()
    except UnreadableImage:
        return bytes(20)


def hidden_like(encoder: VisionEncoder, n_frozen: int, precision: Precision) -> Tensor:
    """The hidden state of a blank picture behind `n_frozen` blocks; it shows the shape and type."""
    size = encoder.image_size
    found: list[Tensor] = []

    def keep(tags: list[int], hidden: Tensor) -> None:
        found.append(hidden[0])

    with FixedShapeBatches(encoder, _trunk(n_frozen), keep, size=1, expected=1, precision=precision) as batches:
        batches.add(0, torch.zeros(3, size, size, dtype=torch.uint8))
    return found[0]


def _trunk(n_frozen: int) -> Callable[[VisionEncoder, Tensor], Tensor]:
    return lambda encoder, pictures: encoder.forward_trunk(normalise(pictures, encoder), n_frozen)


@dataclass(frozen=True, eq=False)
class HiddenStates:
    """Hidden states behind the first `n_frozen` blocks, in a file.

    Attributes:
        path: the file.
        n_frozen: blocks behind which they were taken.
        views: V.
        shape, dtype: of one hidden state.
        problems: row -> what was wrong with the picture; its hidden states are 0.
        batch_size: the shape they were computed in, and from which `embed` goes on.
    """

    path: Path
    n_frozen: int
    views: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    problems: dict[int, str]
    batch_size: int
    n_pictures: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "_rows", None)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_rows": None}  # a process that it is sent to maps the file itself

    def __len__(self) -> int:
        return self.n_pictures

    def __call__(self, row: int, key: int) -> Tensor:
        """The hidden state of the view that `key` draws, as a step's source (see `fewshot.training.loader.Source`).

        Raises:
            UnreadableImage: the picture could not be read when the trunk was made.
        """
        if row in self.problems:
            raise UnreadableImage(self.problems[row])
        return self._read(row * self.views + view_of(key, self.views))

    def _read(self, place: int) -> Tensor:
        rows: Any = getattr(self, "_rows")  # noqa: B009  (set past the frozen dataclass)
        if rows is None:
            rows = np.memmap(self.path, dtype=_ROW, mode="r").reshape(self.n_pictures * self.views, -1)
            object.__setattr__(self, "_rows", rows)
        return torch.from_numpy(np.array(rows[place])).view(self.dtype).view(self.shape)

    def embed(self, encoder: VisionEncoder, precision: Precision) -> Embeddings:
        """Embeddings of every picture's first view, by the tail alone: the same bits as through the whole encoder."""
        features = torch.zeros(len(self), encoder.embed_dim)
        readable = torch.ones(len(self), dtype=torch.bool)
        problems = dict(self.problems)

        def keep(rows: list[int], vectors: Tensor) -> None:
            usable = usable_rows(vectors)
            features[rows] = vectors.where(usable.unsqueeze(1), 0)
            problems.update({row: NO_EMBEDDING for row, good in zip(rows, usable.tolist(), strict=True) if not good})

        def tail(copied: VisionEncoder, hidden: Tensor) -> Tensor:
            return copied.forward_tail(hidden, self.n_frozen)

        with FixedShapeBatches(
            encoder, tail, keep, size=self.batch_size, expected=len(self), precision=precision
        ) as batches:
            for row in range(len(self)):
                if row not in self.problems:
                    batches.add(row, self._read(row * self.views))
        readable[list(problems)] = False
        return Embeddings(features, readable, problems, len(self) - len(self.problems))


def stored_hidden_states(root: Path, key: HiddenStatesKey, n_frozen: int) -> HiddenStates | None:
    """The stored trunk behind the most blocks, at most `n_frozen`; None where there is none."""
    for blocks in range(n_frozen, -1, -1):
        note = _note(root, key, blocks)
        try:
            found = json.loads(note.read_text(encoding="utf-8"))
            if not _is_sound(note, found):
                continue
            trunk = HiddenStates(
                note.with_suffix(".bin"),
                blocks,
                key.views,
                tuple(found["shape"]),
                getattr(torch, found["dtype"]),
                {int(row): problem for row, problem in found["problems"].items()},
                key.batch_size,
                key.n_pictures,
            )
            if trunk.path.stat().st_size == found["bytes"]:
                os.utime(note)
                return trunk
        except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
            continue
    return None


def _is_sound(note: Path, found: dict[str, Any]) -> bool:
    """Whether a stored trunk is bit for bit what was written; warns where it is not. Older versions wrote notes without a digest."""
    stored = found.get(_DIGEST)
    if stored is None:
        return False
    if stored == _digest_of(note.with_suffix(".bin"), found):
        return True
    warnings.warn(f"{note.with_suffix('.bin')}: the stored frozen trunk is damaged; it is computed anew", stacklevel=4)
    return False


def _digest_of(path: Path, note: dict[str, Any]) -> str:
    """The digest of a stored trunk's file together with its note."""
    text = json.dumps({**note, _DIGEST: None}, sort_keys=True)
    return hashlib.sha256(text.encode() + file_digest(path)).hexdigest()


def _note(root: Path, key: HiddenStatesKey, n_frozen: int) -> Path:
    return root / f"{key.digest}-{n_frozen}.json"


def hidden_states_bytes(key: HiddenStatesKey, like: Tensor) -> int:
    """How many bytes of disk hidden states of the shape and type of `like` take."""
    return key.n_pictures * key.views * like.numel() * like.element_size()


def room(root: Path) -> int:
    """How many bytes a new trunk may take below `root`: half of the free space, and no more than the limit for all trunks."""
    place = root
    while not place.exists():
        place = place.parent
    return min(shutil.disk_usage(place).free // 2, MAX_BYTES)


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
    note = _note(root, key, n_frozen)
    beside = root / f".{note.stem}.{os.getpid()}.part"
    try:
        make_file(beside, hidden_states_bytes(key, like))
        shallower = stored_hidden_states(root, key, n_frozen)
        if shallower is None:
            problems = _fill(beside, key, n_frozen, encoder, source, workers, progress)
        else:
            problems = _go_on(beside, shallower, n_frozen, encoder, key.precision, progress)
        os.replace(beside, note.with_suffix(".bin"))
    except OSError as error:
        raise DataError(
            f"{root}: the frozen trunk cannot be stored ({error}). Make room, or use --trunk_cache off"
        ) from error
    finally:
        beside.unlink(missing_ok=True)
    _write_note(note, like, problems)
    _evict(root, keep_stem=note.stem)
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
        FixedShapeBatches(
            encoder, _trunk(n_frozen), keep, size=size, expected=expected, precision=precision
        ) as batches,
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
                batches.add(place, shallower._read(place))
            if progress is not None:
                progress(row + 1, len(shallower))
    return dict(shallower.problems)


@contextmanager
def _rows_of(path: Path, count: int) -> Iterator[Callable[[list[int], Tensor], None]]:
    """Writes hidden states to their places of a file that has its size already."""
    mapped = np.memmap(path, dtype=_ROW, mode="r+")
    rows = mapped.reshape(count, -1)

    def keep(places: list[int], hidden: Tensor) -> None:
        rows[places] = hidden.contiguous().flatten(1).view(torch.uint8).numpy()

    yield keep
    mapped.flush()


def _write_note(note: Path, like: Tensor, problems: dict[int, str]) -> None:
    """Write the note, last of all: a trunk without one does not count."""
    from episodes.files import atomic_write

    found = {
        "shape": list(like.shape),
        "dtype": str(like.dtype).removeprefix("torch."),
        "problems": problems,
        "bytes": note.with_suffix(".bin").stat().st_size,
    }
    found = json.loads(json.dumps(found))  # as it will be read: numbers of rows become text
    found[_DIGEST] = _digest_of(note.with_suffix(".bin"), found)
    with atomic_write(note) as file:
        json.dump(found, file)


def _evict(root: Path, keep_stem: str) -> None:
    """Drop the trunks longest unused until the rest fit, and what was begun days ago and never finished."""
    for begun in root.glob(".*.part"):
        with suppress(OSError):
            if time.time() - begun.stat().st_mtime > _ABANDONED:
                begun.unlink()
    notes = sorted(root.glob("*.json"), key=lambda note: note.stat().st_mtime, reverse=True)
    used = 0
    for note in sorted(notes, key=lambda note: note.stem != keep_stem):
        used += note.with_suffix(".bin").stat().st_size if note.with_suffix(".bin").exists() else 0
        if used > MAX_BYTES and note.stem != keep_stem:
            note.unlink(missing_ok=True)
            note.with_suffix(".bin").unlink(missing_ok=True)


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
