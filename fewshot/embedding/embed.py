"""Picture files to embeddings: every distinct picture once, in batches of one fixed shape, while others are being decoded.

n pictures, B pictures a batch, D embedding width. An embedding never depends on its neighbours: the encoder always sees B
pictures, the last batch padded, so the same picture gives the same bits in any company (see `fewshot.embedding.batches`).
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from episodes.decoding import read_bytes
from episodes.errors import DataError
from fewshot.device import Precision, resolve_precision
from fewshot.embedding.batches import (
    ARITHMETIC,
    NO_EMBEDDING,
    FixedShapeBatches,
    default_batch_size,
    embed_pictures,
    usable_rows,
)
from fewshot.embedding.cache import EmbeddingCache
from fewshot.embedding.reading import Decode, Read, Reader, in_threads
from fewshot.encoders.base import Embedder
from fewshot.images.jpeg_gpu import GpuDecoder, gpu_decoder
from fewshot.images.transform import TRANSFORM, clip_tensors
from fewshot.images.views import VIEWS, View, view_tensors

Progress = Callable[[int, int], None]  # pictures done, pictures in all


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Embeddings of the pictures that could be read, and why the others could not.

    Attributes:
        features: (n, D) float32 of unit norm, on the CPU; a row of an unreadable picture is zero.
        readable: (n,) bool.
        problems: row -> what was wrong with the file.
        computed: how many pictures went through the encoder; the others were repeated or cached.
    """

    features: Tensor
    readable: Tensor
    problems: dict[int, str]
    computed: int


def embed_images(
    encoder: Embedder,
    items: Sequence[Any],
    *,
    precision: Precision = "auto",
    workers: int | None = None,
    batch_size: int | None = None,
    cache: EmbeddingCache | None = None,
    read: Callable[[Any], bytes] = read_bytes,
    decoding: Literal["auto", "cpu"] | GpuDecoder = "auto",
    views: int | None = None,
    progress: Progress | None = None,
) -> Embeddings:
    """Embed picture files; files with the same bytes are encoded once.

    Args:
        encoder: on the device that is to compute; of several together each part embeds by itself.
        items: n paths, or whatever `read` takes.
        precision: see `fewshot.device.resolve_precision`.
        workers: decoding threads; by default one a core, at most 16.
        batch_size: B; `default_batch_size` of each part unless set.
        cache: where embeddings of earlier runs lie and new ones go; None for none.
        read: gives the bytes of an item; raises `UnreadableImage` where it cannot.
        decoding: "auto" decodes JPEGs on the encoder's GPU where that is to be had (see `fewshot.images.jpeg_gpu`), but at precision 32
            on the processor, as "cpu" does.
        views: V, from 1 to 4; `encoder.embed_views` unless given. The embedding is the mean of that many of
            `fewshot.images.views.VIEWS`, again of unit norm. Takes V times as long; each view is cached by itself.
        progress: told (pictures done, n) after every batch; of V views and P parts (views of pictures done, P V n).

    Raises:
        DataError: there are no pictures, or the encoder makes nothing of any.
        ValueError: fewer views than 1, or more than there are.
    """
    count = encoder.embed_views if views is None else views
    if not 1 <= count <= len(VIEWS):
        raise ValueError(f"views is {count}, but there are from 1 to {len(VIEWS)}")
    if len(items) == 0:
        raise DataError("there are no pictures to embed")

    parts = encoder.parts

    def embed(place: int, number: int) -> Embeddings:
        def tell(done: int, n: int) -> None:
            if progress is not None:
                progress((place * count + number) * n + done, len(parts) * count * n)

        part, view = parts[place], VIEWS[number]
        return _embed_view(part, items, view, precision, workers, batch_size, cache, read, decoding, tell)

    return side_by_side([_mean([embed(place, number) for number in range(count)]) for place in range(len(parts))])


def _mean(seen: Sequence[Embeddings]) -> Embeddings:
    """The mean of several views' embeddings, scaled to unit norm. A picture with an unreadable view counts as unreadable."""
    if len(seen) == 1:
        return seen[0]
    return _joined(F.normalize(torch.stack([each.features for each in seen]).sum(0), dim=-1), seen)


def side_by_side(parts: Sequence[Embeddings]) -> Embeddings:
    """Embeddings of the same pictures by several encoders, (n, D1 + D2 + ...) of unit norm; unreadable for one is unreadable."""
    if len(parts) == 1:
        return parts[0]
    return _joined(torch.cat([each.features for each in parts], 1) / len(parts) ** 0.5, parts)


def _joined(features: Tensor, seen: Sequence[Embeddings]) -> Embeddings:
    readable = torch.stack([each.readable for each in seen]).all(0)
    features[~readable] = 0
    problems = {row: problem for each in seen for row, problem in each.problems.items()}
    return Embeddings(features, readable, problems, sum(each.computed for each in seen))


def _embed_view(
    encoder: Embedder,
    items: Sequence[Any],
    view: View,
    precision: Precision,
    workers: int | None,
    batch_size: int | None,
    cache: EmbeddingCache | None,
    read: Callable[[Any], bytes],
    decoding: Literal["auto", "cpu"] | GpuDecoder,
    progress: Progress,
) -> Embeddings:
    """`embed_images` of one view."""
    size = batch_size or default_batch_size(encoder)
    if decoding == "auto":
        exact = resolve_precision(precision, encoder.device) == "32"
        decoding = (None if exact else gpu_decoder(encoder.device, encoder.image_size)) or "cpu"
    decoder = None if decoding == "cpu" or view.name else decoding  # a GPU's decoder knows only the picture as it is
    space = cache_space(encoder, precision, size, decoder, view) if cache is not None else b""
    reader = Reader(encoder, items, read, decoder or _processor_decoder(encoder.image_size, view), cache, space)
    gathered = _Gathered(len(items), encoder.embed_dim, cache)
    count = workers or min(16, os.cpu_count() or 1)
    with FixedShapeBatches(
        encoder,
        embed_pictures,
        gathered.keep,
        size=size,
        expected=len(items),
        precision=precision,
        smaller=gathered.smaller,
    ) as batches:
        for done, got in enumerate(in_threads(reader, len(items), count), start=1):
            gathered.take(got, batches)
            if done % size == 0 or done == len(items):
                progress(done, len(items))
    if cache is not None:
        cache.note_use()
        cache.evict()
    return gathered.finish()


def _processor_decoder(size: int, view: View) -> Decode:
    return partial(view_tensors, size=size, view=view) if view.name else partial(clip_tensors, size=size)


def cache_space(
    encoder: Embedder, precision: Precision, size: int, decoder: GpuDecoder | None = None, view: View = VIEWS[0]
) -> bytes:
    """Everything but the picture that an embedding depends on, as the first part of a cache key."""
    parts = (
        encoder.fingerprint,
        TRANSFORM,
        ARITHMETIC,
        str(encoder.image_size),
        resolve_precision(precision, encoder.device),
        encoder.device.type,
        str(size),
        torch.__version__,
        *([decoder.name] if decoder is not None else []),
        *([view.name] if view.name else []),
    )
    return hashlib.sha256("|".join(parts).encode()).digest()


class _Gathered:
    """The embeddings of n pictures while they come in."""

    def __init__(self, n: int, width: int, cache: EmbeddingCache | None) -> None:
        self._features, self._readable = torch.zeros(n, width), torch.ones(n, dtype=torch.bool)
        self._rows = self._features.numpy()  # the same memory: torch takes ten times as long to write one row
        self._problems: dict[int, str] = {}
        self._twins: list[tuple[int, int]] = []
        self._cache, self._computed = cache, 0
        self._shrunk = False

    def take(self, got: Read, batches: FixedShapeBatches[tuple[int, bytes]]) -> None:
        """Take one picture: hand it to the encoder, or record what the cache or the decoder already says."""
        if got.pixels is not None:
            batches.add((got.row, got.key), got.pixels)
        elif got.vector is not None:
            self._rows[got.row] = got.vector
        elif got.twin is not None:
            self._twins.append((got.row, got.twin))
        else:
            self._readable[got.row] = False
            self._problems[got.row] = got.problem or "unreadable"

    def keep(self, tags: list[tuple[int, bytes]], vectors: Tensor) -> None:
        """Store the encoder's output for a batch of (row, cache key)."""
        self._computed += len(tags)
        sound = usable_rows(vectors)
        if not bool(sound.all()):
            for place in (~sound).nonzero().flatten().tolist():
                self._refuse(tags[place][0])
            tags, vectors = [tag for tag, good in zip(tags, sound.tolist(), strict=True) if good], vectors[sound]
        self._features[[row for row, _ in tags]] = vectors
        if self._cache is not None and not self._shrunk:
            self._cache.put({key: vector for (_, key), vector in zip(tags, vectors.numpy(), strict=True)})

    def smaller(self, size: int) -> None:
        """React to short memory: from now on batches have another shape, so nothing more goes into the cache under this one's key."""
        self._shrunk = True
        warnings.warn(
            f"memory is short: going on with {size} pictures a batch. Embeddings may differ in their last digits from those of other runs, "
            "and are not cached",
            stacklevel=2,
        )

    def _refuse(self, row: int) -> None:
        """Count a picture as unreadable because its embedding is not finite or has length 0."""
        self._readable[row] = False
        self._problems[row] = NO_EMBEDDING

    def finish(self) -> Embeddings:
        """The finished `Embeddings`; copies of an earlier row's file get that row's embedding.

        Raises:
            DataError: The encoder made nothing of any picture.
        """
        refused = sum(problem == NO_EMBEDDING for problem in self._problems.values())
        if refused and not bool(self._readable.any()):
            raise DataError(
                f"none of the {refused} pictures that could be read has a usable embedding: the encoder gives NaN, infinities or zeros. "
                "Its weights are unusable, or 16-bit numbers overflow: use --precision 32, or another checkpoint or backbone"
            )
        for row, twin in self._twins:
            self._features[row], self._readable[row] = self._features[twin], self._readable[twin]
            if twin in self._problems:
                self._problems[row] = self._problems[twin]
        return Embeddings(self._features, self._readable, self._problems, self._computed)
