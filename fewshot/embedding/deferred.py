"""An encoder that is loaded only when it must compute: where every picture is cached, its weights file is hashed and no more.

What a cache key needs of an encoder is kept as a note in the cache of embeddings, under a digest of every byte of the files that it
is made of and of the code that makes it. A file with one other bit has another note or none, and is then read, and checked, as ever.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from episodes.errors import DataError
from fewshot.embedding.cache import EmbeddingCache
from fewshot.embedding.file_digest import fresh_digest
from fewshot.encoders.base import Embedder, VisionEncoder
from fewshot.encoders.code import code_digest


@dataclass(frozen=True)
class Facts:
    """What is known of an encoder without loading it; see `Embedder`."""

    name: str
    fingerprint: str
    embed_dim: int
    image_size: int


class DeferredEncoder:
    """An `Embedder` whose weights are read when they are first needed."""

    def __init__(
        self,
        facts: Facts,
        device: torch.device,
        load: Callable[[], VisionEncoder],
        opened: VisionEncoder | None = None,
    ) -> None:
        """Keep what is known.

        Args:
            facts: noted when it was loaded before.
            device: where it is to compute.
            load: loads it, onto that device.
            opened: the encoder, if it has just been loaded.
        """
        self._facts, self._device, self._load, self._opened = facts, device, load, opened
        self.embed_views = opened.embed_views if opened is not None else 1

    @property
    def name(self) -> str:
        """See `Embedder.name`."""
        return self._facts.name

    @property
    def embed_dim(self) -> int:
        """See `Embedder.embed_dim`."""
        return self._facts.embed_dim

    @property
    def image_size(self) -> int:
        """See `Embedder.image_size`."""
        return self._facts.image_size

    @property
    def device(self) -> torch.device:
        """See `Embedder.device`."""
        return self._device

    @property
    def fingerprint(self) -> str:
        """See `Embedder.fingerprint`."""
        return self._facts.fingerprint

    @property
    def parts(self) -> tuple[Embedder, ...]:
        """See `Embedder.parts`."""
        return (self,)

    def open(self) -> VisionEncoder:
        """The encoder itself.

        Raises:
            DataError: its files are not what they were when they were hashed.
        """
        if self._opened is None:
            encoder = self._load()
            if encoder.fingerprint != self.fingerprint:
                raise DataError(f"the weights of {self.name} changed while they were being read; run it again")
            self._opened = encoder
        self._opened.embed_views = self.embed_views
        return self._opened

    def inference_copy(self, dtype: torch.dtype) -> VisionEncoder:
        """See `VisionEncoder.inference_copy`."""
        return self.open().inference_copy(dtype)


def opened(encoder: Embedder) -> VisionEncoder:
    """The encoder itself, loaded now if it was not."""
    if isinstance(encoder, DeferredEncoder):
        return encoder.open()
    assert isinstance(encoder, VisionEncoder)
    return encoder


def defer(
    what: str,
    files: Sequence[Path] | None,
    device: torch.device,
    load: Callable[[], VisionEncoder],
    cache: EmbeddingCache | None,
) -> Embedder:
    """The encoder that `load` gives, loaded at once only where nothing is known of it yet.

    Args:
        what: how its files become an encoder: a backbone's name, or that they are a checkpoint.
        files: everything that it is made of; None where that is not known.
        device: where it is to compute.
        load: loads it, onto that device.
        cache: where what is known is noted; None loads it.

    Raises:
        DataError, UsageError: those of `load`.
    """
    if cache is None or files is None or not all(path.is_file() for path in files):
        return load()
    before = _identity(files)
    key = _key(what, files)
    known = _facts(cache.get_note(key))
    if known is not None:
        return DeferredEncoder(known, device, load)
    encoder = load()
    facts = Facts(encoder.name, encoder.fingerprint, encoder.embed_dim, encoder.image_size)
    if _identity(files) == before:  # what was hashed is what was loaded
        cache.put_note(key, json.dumps(asdict(facts)).encode())
    return DeferredEncoder(facts, device, load, encoder)


def _identity(files: Sequence[Path]) -> list[tuple[int, ...]]:
    found = [os.stat(path) for path in files]
    return [(each.st_ino, each.st_size, each.st_mtime_ns, each.st_ctime_ns) for each in found]


def _key(what: str, files: Sequence[Path]) -> bytes:
    """(32,) of the files' bytes and of the code that makes an encoder of them."""
    digest = hashlib.sha256(f"encoder|{what}|".encode() + code_digest())
    for path in files:
        digest.update(fresh_digest(path))
    return digest.digest()


def _facts(note: bytes | None) -> Facts | None:
    try:
        return None if note is None else Facts(**json.loads(note))
    except (ValueError, TypeError):
        return None
