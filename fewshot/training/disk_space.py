"""Whether a run's files will fit on the disk, asked before an hour of work and not after it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from episodes.errors import DataError
from episodes.files import display_name
from fewshot.training.model import EpisodicModel
from fewshot.training.optimiser import trained_parameters

_TEXT = 4 << 20  # config.json, metrics.csv, headers


def bytes_of_run(model: EpisodicModel) -> int:
    """The most that a run's folder holds at one moment.

    That is two states to resume from, the old one and the next that is being written beside it, or the last state and the checkpoint.

    Args:
        model: the whole of it, with its trainable part marked.
    """
    encoder = model.encoder
    trained = _bytes(trained_parameters(model).values())
    state = 4 * trained  # weights, two moments of AdamW, and the best epoch's weights
    statistics = 2 * 8 * encoder.embed_dim * (encoder.embed_dim + 2)  # covariance and mean, tuned and untouched
    kept = _bytes(model.state_dict().values()) + trained + statistics  # and the tuned tensors' original values
    return state + max(state, kept) + _TEXT


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def require_room(folder: Path, need: int) -> None:
    """Refuse a run whose files will not fit.

    Args:
        folder: where they go; it need not be there yet.
        need: bytes.

    Raises:
        DataError: less is free.
    """
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if need > free:
        raise DataError(
            f"{display_name(str(folder))}: the run's files need up to {need / 2**20:,.0f} MiB, {free / 2**20:,.0f} MiB are free there. "
            "Make room, or name another --output"
        )
