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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from episodes.decoding import UnreadableImage, read_bytes
from fewshot.device import Precision
from fewshot.embedding.batches import NO_EMBEDDING, FixedShapeBatches, default_batch_size, usable_rows
from fewshot.embedding.embed import Embeddings, cache_space
from fewshot.encoders.base import VisionEncoder
from fewshot.images.augmentation import Augmentation
from fewshot.images.augmented_views import view_of
from fewshot.images.transform import normalise

ROW = np.uint8  # files are mapped as bytes: numpy has no bfloat16


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

    with FixedShapeBatches(encoder, trunk(n_frozen), keep, size=1, expected=1, precision=precision) as batches:
        batches.add(0, torch.zeros(3, size, size, dtype=torch.uint8))
    return found[0]


def trunk(n_frozen: int) -> Callable[[VisionEncoder, Tensor], Tensor]:
    """The first `n_frozen` blocks, as `FixedShapeBatches` takes them."""
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
        """The hidden state of the view that `key` draws, as a step's source (see `fewshot.training.steps.Source`).

        Raises:
            UnreadableImage: the picture could not be read when the trunk was made.
        """
        if row in self.problems:
            raise UnreadableImage(self.problems[row])
        return self.read(row * self.views + view_of(key, self.views))

    def read(self, place: int) -> Tensor:
        """The hidden state at a place: that of view v of row r is at r x V + v."""
        rows: Any = getattr(self, "_rows")  # noqa: B009  (set past the frozen dataclass)
        if rows is None:
            rows = np.memmap(self.path, dtype=ROW, mode="r").reshape(self.n_pictures * self.views, -1)
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
                    batches.add(row, self.read(row * self.views))
        readable[list(problems)] = False
        return Embeddings(features, readable, problems, len(self) - len(self.problems))


def hidden_states_bytes(key: HiddenStatesKey, like: Tensor) -> int:
    """How many bytes of disk hidden states of the shape and type of `like` take."""
    return key.n_pictures * key.views * like.numel() * like.element_size()
