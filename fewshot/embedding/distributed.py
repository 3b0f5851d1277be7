"""Several processes, started by torchrun, embed one list of pictures: each its share of the distinct ones, the first gets all.

An embedding depends neither on its neighbours nor on who computes it, so one process or many give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed

from episodes.decoding import UnreadableImage, read_bytes
from episodes.errors import DataError
from fewshot.distributed import rank_and_world
from fewshot.embedding.batches import default_batch_size
from fewshot.embedding.embed import Embeddings, embed_images, side_by_side
from fewshot.embedding.reading import picture_digest
from fewshot.encoders.base import Embedder

_Share = tuple[list[int], Embeddings | None]  # rows, and their embeddings


def embed_distributed(
    encoder: Embedder,
    items: Sequence[Any],
    *,
    batch_size: int | None = None,
    read: Callable[[Any], bytes] = read_bytes,
    **settings: Any,
) -> Embeddings | None:
    """What `embed_images` gives, computed by all processes of a `process_group`; None in all but the first.

    Every process calls it with the same pictures. Whole batches of distinct pictures are shared out. Arguments and errors are
    those of `embed_images`.
    """
    rank, world = rank_and_world()
    if world == 1 or len(items) == 0:
        return embed_images(encoder, items, batch_size=batch_size, read=read, **settings)
    if len(encoder.parts) > 1:  # their batches are of different sizes
        settings = {"batch_size": batch_size, "read": read, "views": encoder.embed_views, **settings}
        found = [embed_distributed(each, items, **settings) for each in encoder.parts]
        return side_by_side([each for each in found if each is not None]) if rank == 0 else None
    size = batch_size or default_batch_size(encoder)
    stands_for = _stand_ins(items, read, rank, world)
    distinct = [row for row, first in enumerate(stands_for) if row == first]
    mine = [row for place, row in enumerate(distinct) if place // size % world == rank]
    part = embed_images(encoder, [items[r] for r in mine], batch_size=size, read=read, **settings) if mine else None
    shares: list[Any] | None = [None] * world if rank == 0 else None
    with _others_may_fail():
        distributed.gather_object((mine, part), shares)
    return _merged(shares, stands_for, encoder.embed_dim) if shares is not None else None


@contextmanager
def _others_may_fail() -> Iterator[None]:
    """Hide the traceback of processes that only lost a partner; the one that failed says why."""
    try:
        yield
    except RuntimeError as error:
        raise DataError("another process has failed; its message says why") from error


def _stand_ins(items: Sequence[Any], read: Callable[[Any], bytes], rank: int, world: int) -> list[int]:
    """(n,) the first row with the same bytes as each; an unreadable file stands for itself."""
    own: dict[int, bytes] = {}
    for row in range(rank, len(items), world):
        try:
            own[row] = picture_digest(read(items[row]))
        except UnreadableImage:
            continue
    parts: list[Any] = [None] * world
    with _others_may_fail():
        distributed.all_gather_object(parts, own)
    digests: dict[int, bytes] = {row: digest for part in parts for row, digest in part.items()}
    first: dict[bytes, int] = {}
    return [first.setdefault(digests[row], row) if row in digests else row for row in range(len(items))]


def _merged(shares: Sequence[_Share], stands_for: list[int], width: int) -> Embeddings:
    """All rows from the processes' shares of the distinct ones."""
    count = len(stands_for)
    features, readable = torch.zeros(count, width), torch.ones(count, dtype=torch.bool)
    problems: dict[int, str] = {}
    for rows, part in shares:
        if part is not None:
            features[rows], readable[rows] = part.features, part.readable
            problems |= {rows[place]: problem for place, problem in part.problems.items()}
    problems = {row: problems[first] for row, first in enumerate(stands_for) if first in problems}
    computed = sum(part.computed for _, part in shares if part is not None)
    return Embeddings(features[stands_for], readable[stands_for], problems, computed)
