"""Picture files to embeddings: every distinct picture once, in batches of one fixed shape, while others are being decoded.

n pictures, B pictures a batch, D embedding width. An embedding never depends on its neighbours: the encoder always sees B
pictures, the last batch padded, so the same picture gives the same bits in any company.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from episodes.errors import DataError
from fewshot.cache import EmbeddingCache
from fewshot.device import Precision, autocast, resolve_precision
from fewshot.encoders.base import VisionEncoder
from fewshot.images import Pixels, UnreadableImage, decode, normalise, read_bytes, resize_and_crop

Progress = Callable[[int, int], None]  # pictures done, pictures in all
_TRANSFORM = (
    "clip-1"  # name of the test transform in cache keys: a change of `fewshot.images` that moves a pixel renames it
)
_CHUNK = 8  # pictures a thread takes at a time: enough to hide the cost of handing over


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


@dataclass(frozen=True)
class _Read:
    """One picture on its way: exactly one of pixels, vector, twin (row with the same bytes) and problem is set."""

    row: int
    key: bytes = b""
    pixels: Pixels | None = None
    vector: npt.NDArray[np.float32] | None = None
    twin: int | None = None
    problem: str | None = None


def default_batch_size(encoder: VisionEncoder) -> int:
    """B, fixed by device type and picture size alone, because it is part of what an embedding depends on."""
    if encoder.device.type != "cpu":
        return 256
    return 32 if encoder.image_size > 128 else 128


def embed_images(
    encoder: VisionEncoder,
    items: Sequence[Any],
    *,
    precision: Precision = "auto",
    workers: int | None = None,
    batch_size: int | None = None,
    cache: EmbeddingCache | None = None,
    read: Callable[[Any], bytes] = read_bytes,
    progress: Progress | None = None,
) -> Embeddings:
    """Embed picture files; files with the same bytes are encoded once.

    Args:
        encoder: on the device that is to compute.
        items: n paths, or whatever `read` takes.
        precision: see `fewshot.device.resolve_precision`.
        workers: decoding threads; by default one a core, at most 16.
        batch_size: B; `default_batch_size` unless set.
        cache: where embeddings of earlier runs lie and new ones go; None for none.
        read: gives the bytes of an item; raises `UnreadableImage` where it cannot.
        progress: told (pictures done, n) after every batch.

    Raises:
        DataError: there are no pictures.
    """
    if len(items) == 0:
        raise DataError("there are no pictures to embed")
    resolved = resolve_precision(precision, encoder.device)
    batch = _Batch(encoder, resolved, batch_size or default_batch_size(encoder))
    reader = _Reader(items, read, encoder.image_size, cache, batch.key() if cache is not None else b"")
    features = torch.zeros(len(items), encoder.embed_dim)
    readable = torch.ones(len(items), dtype=torch.bool)
    problems: dict[int, str] = {}
    twins: list[tuple[int, int]] = []
    computed = 0

    def flush() -> None:
        nonlocal computed
        computed += len(batch)
        rows, keys, vectors = batch.run()
        features[rows] = vectors
        if cache is not None:
            cache.put(dict(zip(keys, vectors.numpy(), strict=True)))

    used: list[bytes] = []
    for done, got in enumerate(_in_threads(reader, len(items), workers or min(16, os.cpu_count() or 1)), start=1):
        if got.pixels is not None:
            batch.add(got.row, got.key, got.pixels)
            if batch.full:
                flush()
        elif got.vector is not None:
            features[got.row] = torch.from_numpy(got.vector.copy())
            used.append(got.key)
        elif got.twin is not None:
            twins.append((got.row, got.twin))
        else:
            readable[got.row] = False
            problems[got.row] = got.problem or "unreadable"
        if progress is not None and (done % batch.size == 0 or done == len(items)):
            progress(done, len(items))
    if len(batch):
        flush()
    for row, twin in twins:
        features[row], readable[row] = features[twin], readable[twin]
        if twin in problems:
            problems[row] = problems[twin]
    if cache is not None:
        cache.touch(used)
        cache.evict()
    return Embeddings(features, readable, problems, computed)


class _Reader:
    """Reads, recognises and decodes one picture; called from several threads."""

    def __init__(
        self, items: Sequence[Any], read: Callable[[Any], bytes], size: int, cache: EmbeddingCache | None, space: bytes
    ) -> None:
        self._items, self._read, self._size, self._cache, self._space = items, read, size, cache, space
        self._first: dict[bytes, int] = {}  # digest -> row that stands for these bytes
        self._lock = threading.Lock()

    def __call__(self, row: int) -> _Read:
        try:
            data = self._read(self._items[row])
        except UnreadableImage as error:
            return _Read(row, problem=str(error))
        digest = hashlib.blake2b(data, digest_size=20).digest()
        with self._lock:
            first = self._first.setdefault(digest, row)
        if first != row:
            return _Read(row, twin=first)
        key = self._space + digest
        vector = self._cache.get(key) if self._cache is not None else None
        if vector is not None:
            return _Read(row, key=key, vector=vector)
        try:
            return _Read(row, key=key, pixels=resize_and_crop(decode(data), self._size))
        except UnreadableImage as error:
            return _Read(row, problem=str(error))


def _in_threads(reader: _Reader, n: int, workers: int) -> Iterator[_Read]:
    """The reader's results in row order, with a bounded number of pictures in memory."""
    window: deque[Future[list[_Read]]] = deque()
    starts = iter(range(0, n, _CHUNK))
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        try:
            for start in starts:
                window.append(
                    pool.submit(lambda first: [reader(row) for row in range(first, min(first + _CHUNK, n))], start)
                )
                if len(window) > 4 * workers + 8:
                    yield from window.popleft().result()
            while window:
                yield from window.popleft().result()
        finally:
            for future in window:
                future.cancel()


class _Batch:
    """Pictures waiting for the encoder; `run` pads them to the one batch shape."""

    def __init__(self, encoder: VisionEncoder, precision: Any, size: int) -> None:
        self.size = size
        self._encoder, self._precision = encoder, precision
        pinned = encoder.device.type == "cuda"
        self._pixels = torch.zeros(
            size, 3, encoder.image_size, encoder.image_size, dtype=torch.uint8, pin_memory=pinned
        )
        self._view = self._pixels.numpy()
        self._rows: list[int] = []
        self._keys: list[bytes] = []

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def full(self) -> bool:
        return len(self) == self.size

    def add(self, row: int, key: bytes, pixels: Pixels) -> None:
        self._view[len(self)] = pixels
        self._rows.append(row)
        self._keys.append(key)

    def run(self) -> tuple[list[int], list[bytes], Tensor]:
        """Rows, cache keys and (len, D) float32 embeddings of what was added; leaves the batch empty."""
        count, device = len(self), self._encoder.device
        with torch.inference_mode(), autocast(self._precision, device):
            vectors = self._encoder(normalise(self._pixels.to(device), self._encoder))[:count].cpu()
        rows, keys = self._rows, self._keys
        self._rows, self._keys = [], []
        return rows, keys, vectors

    def key(self) -> bytes:
        """Everything but the picture that an embedding depends on."""
        parts = (
            self._encoder.fingerprint,
            _TRANSFORM,
            str(self._encoder.image_size),
            self._precision,
            self._encoder.device.type,
            str(self.size),
            torch.__version__,
        )
        return hashlib.sha256("|".join(parts).encode()).digest()
