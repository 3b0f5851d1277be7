"""Batches of one fixed shape through an encoder, several at a time on a CPU, while others are being read.

On a CPU every batch belongs to one core: cores do not wait for each other inside a batch, reading and encoding share them
without a barrier, and the bits of a result depend neither on how many cores there are nor on what else goes through.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

import torch
from torch import Tensor

from fewshot.device import Precision, autocast, resolve_precision
from fewshot.embedding.out_of_memory import Pieces, Smaller
from fewshot.encoders.base import Embedder, VisionEncoder
from fewshot.images.transform import normalise

Tag = TypeVar("Tag", bound=Hashable)
Forward = Callable[[VisionEncoder, Tensor], Tensor]

ARITHMETIC = "lanes-2"  # in cache keys: a change of the encoders' forward pass that moves a bit renames it
NO_EMBEDDING = "the encoder gives no usable embedding: NaN, infinities or zeros"
DTYPES = {"32": torch.float32, "bf16": torch.bfloat16, "16": torch.float16}


def default_batch_size(encoder: Embedder) -> int:
    """B, fixed by device type and picture size alone, because it is part of what an embedding depends on."""
    if encoder.device.type != "cpu":
        return 256
    return 32 if encoder.image_size > 128 else 128


def embed_pictures(encoder: VisionEncoder, pictures: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 -> (B, D) embeddings."""
    embeddings: Tensor = encoder(normalise(pictures, encoder))
    return embeddings


def usable_rows(embeddings: Tensor) -> Tensor:
    """Which embeddings are finite and have a direction: one NaN, or one length of 0, would make a whole task's answers void.

    Args:
        embeddings: (B, D).

    Returns:
        (B,) bool.
    """
    norms: Tensor = torch.linalg.vector_norm(embeddings, dim=1)
    return torch.isfinite(norms) & (norms > 0)


class _Callers:
    """Keeps threads that feed batches to one core: they only copy, and helpers of theirs would take time from the encoding threads.

    How many threads torch uses is of the process as well as of the thread, so batches that overlap must not take each other's
    one for the usual number.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._usual = threading.Lock(), 0, 1

    def usual(self) -> int:
        """How many threads torch uses where no batches are running."""
        with self._lock:
            return self._usual if self._inside else torch.get_num_threads()

    def enter(self) -> None:
        with self._lock:
            if not self._inside:
                self._usual = torch.get_num_threads()
            self._inside += 1
            torch.set_num_threads(1)

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            torch.set_num_threads(self._usual)  # also what threads yet to be started begin with


_CALLERS = _Callers()


class FixedShapeBatches(Generic[Tag]):
    """Collects values one by one, runs them in padded batches of B, and hands each result to `sink`.

    Use it as a context; leaving it runs what is left. `sink` is called in the caller's thread, in the order of `add`.
    """

    def __init__(
        self,
        encoder: Embedder,
        forward: Forward,
        sink: Callable[[list[Tag], Tensor], None],
        *,
        size: int,
        expected: int,
        precision: Precision = "auto",
        smaller: Smaller | None = None,
    ) -> None:
        """Store what to run; threads start, and the encoder is copied, with the first full batch.

        Args:
            encoder: on the device that computes; a frozen copy is made when the first batch is full, so its weights of that moment
                count.
            forward: (copy of the encoder, batch (B, ...)) -> (B, ...).
            sink: takes the tags of a batch and its results, on the CPU.
            size: B.
            expected: how many values there may be: no more threads are started than there are batches.
            precision: see `fewshot.device.resolve_precision`.
            smaller: allows smaller batches where memory is short, and is told of them: results are then not the same bits.
        """
        self._encoder, self._forward, self._sink, self._size = encoder, forward, sink, size
        self._pieces = Pieces(size, smaller)
        self._precision = resolve_precision(precision, encoder.device)
        self._on_cpu = encoder.device.type == "cpu"
        self._threads = _CALLERS.usual()
        self._workers = max(1, min(self._threads, -(-expected // size))) if self._on_cpu else 1
        self._pool: ThreadPoolExecutor | None = None
        self._copy: VisionEncoder | None = None
        self._running: deque[tuple[list[Tag], Tensor, Future[Tensor]]] = deque()
        self._free: list[Tensor] = []
        self._batch: Tensor | None = None
        self._tags: list[Tag] = []

    def __enter__(self) -> FixedShapeBatches[Tag]:
        if self._on_cpu:
            _CALLERS.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._submit()
                while self._running:
                    self._deliver()
        finally:
            try:
                if self._pool is not None:
                    self._pool.shutdown(cancel_futures=True)
            finally:
                if self._on_cpu:
                    _CALLERS.leave()

    def add(self, tag: Tag, value: Tensor) -> None:
        """Take one value, copied; blocks while every thread is busy and has its next batch waiting."""
        if self._batch is None:
            self._batch = self._free.pop() if self._free else self._buffer(value)
        self._batch[len(self._tags)] = value
        self._tags.append(tag)
        if len(self._tags) == self._size:
            self._submit()

    def _buffer(self, like: Tensor) -> Tensor:
        return torch.zeros((self._size, *like.shape), dtype=like.dtype, pin_memory=self._encoder.device.type == "cuda")

    def _submit(self) -> None:
        if not self._tags or self._batch is None:
            return
        if self._pool is None or self._copy is None:
            self._copy = self._encoder.inference_copy(DTYPES[self._precision])
            self._pool = ThreadPoolExecutor(self._workers, "encode", initializer=self._enter_thread)
        while len(self._running) > self._workers:
            self._deliver()
        self._running.append((self._tags, self._batch, self._pool.submit(self._run, self._copy, self._batch)))
        self._tags, self._batch = [], None

    def _deliver(self) -> None:
        tags, batch, future = self._running.popleft()
        result = future.result()
        self._free.append(batch)
        self._sink(tags, result[: len(tags)])

    def _enter_thread(self) -> None:
        if self._on_cpu:
            torch.set_num_threads(1)  # of this thread

    def _run(self, encoder: VisionEncoder, batch: Tensor) -> Tensor:
        with torch.inference_mode(), autocast(self._precision, self._encoder.device):
            device = self._encoder.device
            return self._pieces.run(lambda part: self._forward(encoder, part.to(device, non_blocking=True)), batch)
