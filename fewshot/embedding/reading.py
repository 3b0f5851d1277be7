"""Picture files read, recognised and decoded by several threads, ahead of the encoder; see `fewshot.embedding.embed`."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from episodes.decoding import UnreadableImage
from fewshot.embedding.cache import EmbeddingCache
from fewshot.encoders.base import Embedder

Decode = Callable[[Sequence[bytes]], list[Tensor | UnreadableImage]]  # files -> (3, H, W) uint8, or why not
_CHUNK = 32  # pictures a thread takes at a time, where there are many: enough to hide the cost of handing over
_HELD_BYTES = 16 << 20  # of files that a thread holds before it decodes them


@dataclass(frozen=True)
class Read:
    """One picture on its way: exactly one of pixels, vector, twin (row with the same bytes) and problem is set."""

    row: int
    key: bytes = b""
    pixels: Tensor | None = None
    vector: npt.NDArray[np.float32] | None = None
    twin: int | None = None
    problem: str | None = None


def picture_digest(data: bytes) -> bytes:
    """The digest of a picture file's bytes, for cache keys and to recognise copies."""
    return hashlib.sha256(data).digest()[:20]


class Reader:
    """Reads, recognises and decodes pictures; called from several threads."""

    def __init__(
        self,
        encoder: Embedder,
        items: Sequence[Any],
        read: Callable[[Any], bytes],
        decode: Decode,
        cache: EmbeddingCache | None,
        space: bytes,
    ) -> None:
        self._items, self._read, self._decode, self._cache, self._space = items, read, decode, cache, space
        self._width = encoder.embed_dim
        self._first: dict[bytes, int] = {}  # digest -> row that stands for these bytes

    def __call__(self, rows: range) -> list[Read]:
        """Read some rows: from memory, the cache or the file; in their order."""
        got: list[Read] = []
        waiting: list[tuple[int, bytes | Read, bytes]] = []
        held = 0
        for row in rows:
            waiting.append((row, *self._look(row)))
            held += len(waiting[-1][2])
            if held > _HELD_BYTES or row == rows[-1]:
                got += self._finish(waiting)
                waiting, held = [], 0
        return got

    def _finish(self, waiting: list[tuple[int, bytes | Read, bytes]]) -> list[Read]:
        keys = [key for _, key, _ in waiting if isinstance(key, bytes)]
        found = self._cache.get_many(keys) if self._cache is not None else {}
        known = {key: vector for key, vector in found.items() if len(vector) == self._width}
        fresh = {key: data for _, key, data in waiting if isinstance(key, bytes) and key not in known}
        decoded = dict(zip(fresh, self._decode(list(fresh.values())), strict=True)) if fresh else {}
        return [key if isinstance(key, Read) else _told(row, key, known, decoded) for row, key, _ in waiting]

    def _look(self, row: int) -> tuple[bytes | Read, bytes]:
        """(cache key, the file's bytes), or what is known already in place of the key."""
        try:
            data = self._read(self._items[row])
        except UnreadableImage as error:
            return Read(row, problem=str(error)), b""
        digest = picture_digest(data)
        first = self._first.setdefault(digest, row)  # one operation, so threads cannot both be first
        return (self._space + digest, data) if first == row else (Read(row, twin=first), b"")


def _told(
    row: int,
    key: bytes,
    known: Mapping[bytes, npt.NDArray[np.float32]],
    decoded: Mapping[bytes, Tensor | UnreadableImage],
) -> Read:
    """The outcome for a row that needs no encoder."""
    if key in known:
        return Read(row, key=key, vector=known[key])
    pixels = decoded[key]
    if isinstance(pixels, UnreadableImage):
        return Read(row, problem=str(pixels))
    return Read(row, key=key, pixels=pixels)


def in_threads(reader: Reader, n: int, workers: int) -> Iterator[Read]:
    """The reader's results in row order, with a bounded number of pictures in memory."""
    window: deque[Future[list[Read]]] = deque()
    chunk = max(1, min(_CHUNK, n // (4 * workers)))
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        try:
            for start in range(0, n, chunk):
                window.append(pool.submit(reader, range(start, min(start + chunk, n))))
                if len(window) > workers + 2:
                    yield from window.popleft().result()
            while window:
                yield from window.popleft().result()
        finally:
            for future in window:
                future.cancel()
