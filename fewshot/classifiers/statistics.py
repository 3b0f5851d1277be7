"""Mean and covariance of training classes under an encoder: from a checkpoint, from `tiny`'s own, or from a folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from episodes import ImageTable, read_class_folders
from episodes.counter_random import START, fold
from episodes.errors import DataError
from episodes.files import display_name
from fewshot.classifiers.base import Statistics, class_statistics
from fewshot.device import Precision
from fewshot.embedding.cache import EmbeddingCache
from fewshot.embedding.embed import Embeddings, Progress, embed_images
from fewshot.encoders import family_of
from fewshot.encoders.base import Embedder

MOST_PICTURES = 10_000


def select_rows(table: ImageTable, seed: int, most: int = MOST_PICTURES) -> list[int]:
    """At most `most` seeded rows of a table, in order."""
    if len(table) <= most:
        return list(range(len(table)))
    keys = fold(fold(START, seed & (1 << 63) - 1), np.arange(len(table)))
    return sorted(int(row) for row in np.argsort(keys, kind="stable")[:most])


def statistics_of(
    encoder: Embedder,
    items: Sequence[Any],
    labels: npt.NDArray[np.integer[Any]],
    *,
    precision: Precision = "auto",
    workers: int | None = None,
    cache: EmbeddingCache | None = None,
    progress: Progress | None = None,
) -> Statistics:
    """Statistics of pictures `items` (n) with classes `labels` (n,); unreadable ones are left out."""
    got = embed_images(encoder, items, precision=precision, workers=workers, cache=cache, progress=progress)
    return statistics_of_embeddings(got, labels)


def statistics_of_embeddings(found: Embeddings, labels: npt.NDArray[np.integer[Any]]) -> Statistics:
    """Statistics of embedded pictures (n) with classes `labels` (n,); unreadable ones are left out."""
    known = torch.from_numpy(labels.astype("int64"))
    return class_statistics(found.features[found.readable], known[found.readable])


def statistics_of_folder(encoder: Embedder, root: str | Path, *, seed: int = 0, **settings: Any) -> Statistics:
    """Statistics of class folders, from at most 10,000 seeded pictures; `settings` as in `statistics_of`.

    Raises:
        DataError: no class folders, or no picture in them that can be read; names the folder.
    """
    table = read_class_folders(root)
    rows = select_rows(table, seed)
    try:
        return statistics_of(encoder, [table.items[row] for row in rows], table.labels[rows], **settings)
    except DataError as error:
        raise DataError(
            f"{display_name(os.fspath(root))}: {error}; give class folders of pictures that can be read"
        ) from error


def shipped_statistics(backbone: str) -> Statistics | None:
    """Those that come with an encoder, such as `tiny`'s of its own training photographs; None where none come."""
    tensors = family_of(backbone).statistics(backbone)
    return None if tensors is None else Statistics.from_tensors(tensors)
