"""Hidden states on disk: which are there, whether they are what was written, and which go first where room is short.

A file of states has a note beside it, written last: a file without one does not count. Both are named by
`HiddenStatesKey` and the number of blocks.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from episodes.files import atomic_write
from fewshot.embedding.file_digest import file_digest
from fewshot.embedding.hidden_states import HiddenStates, HiddenStatesKey

MAX_BYTES = 64 << 30  # kept in the cache folder, over all trunks
_ABANDONED = 7 * 86_400  # seconds after which a file that nobody writes to is what a killed run left
_DIGEST = "digest"  # in a trunk's note: of its file, and of the note itself


def stored_hidden_states(root: Path, key: HiddenStatesKey, n_frozen: int) -> HiddenStates | None:
    """The stored trunk behind the most blocks, at most `n_frozen`; None where there is none."""
    for blocks in range(n_frozen, -1, -1):
        note = note_of(root, key, blocks)
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


def note_of(root: Path, key: HiddenStatesKey, n_frozen: int) -> Path:
    """Where the note of a trunk lies; its file of states has the suffix `.bin` instead."""
    return root / f"{key.digest}-{n_frozen}.json"


def room(root: Path) -> int:
    """How many bytes a new trunk may take below `root`: half of the free space, and no more than the limit for all trunks.

    None where nothing can be written: a cache on a read-only disk is no reason to fail.
    """
    place = root.absolute()
    while not os.path.isdir(place):
        place = place.parent
    if not os.access(place, os.W_OK | os.X_OK):
        return 0
    return min(shutil.disk_usage(place).free // 2, MAX_BYTES)


def write_note(note: Path, like: Tensor, problems: dict[int, str]) -> None:
    """Write the note, last of all: a trunk without one does not count."""
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


def _status(path: Path) -> tuple[int, float]:
    """Bytes and time of a file; zeros where another process has just removed it."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0.0
    return found.st_size, found.st_mtime


def evict(root: Path, keep_stem: str) -> None:
    """Drop the trunks longest unused until the rest fit, and what was begun days ago and never finished."""
    for begun in root.glob(".*.part"):
        with suppress(OSError):
            if time.time() - begun.stat().st_mtime > _ABANDONED:
                begun.unlink()
    notes = sorted(root.glob("*.json"), key=lambda note: _status(note)[1], reverse=True)
    used = 0
    for note in sorted(notes, key=lambda note: note.stem != keep_stem):
        used += _status(note.with_suffix(".bin"))[0]
        if used > MAX_BYTES and note.stem != keep_stem:
            note.unlink(missing_ok=True)
            note.with_suffix(".bin").unlink(missing_ok=True)
