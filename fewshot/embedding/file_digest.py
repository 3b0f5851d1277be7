"""Large files of a cache: their place on the disk taken before they are filled, and a digest that several threads compute."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

_PART, _CHUNK = 64 << 20, 1 << 20  # bytes that a thread hashes, and that it reads at a time


def make_file(path: Path, size: int) -> None:
    """Make a file of zeros whose place is taken on the disk: a full disk kills a process that fills a mapped file of holes.

    Args:
        path: The file; what was there is lost.
        size: Its bytes.

    Raises:
        OSError: The disk is full, or the folder cannot be written to.
    """
    with path.open("wb") as file:
        if size and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)


def file_digest(path: Path) -> bytes:
    """A digest of every byte of a file; of a file that has not changed since, the one computed before.

    Args:
        path: The file.

    Returns:
        32 bytes.

    Raises:
        OSError: The file cannot be read.
    """
    status = path.stat()
    return _digest(path, status.st_size, status.st_mtime_ns, status.st_ino)


@functools.lru_cache(maxsize=64)  # a run opens the same file several times
def _digest(path: Path, size: int, changed_ns: int, inode: int) -> bytes:
    """As `file_digest`; `changed_ns` and `inode` say which version of the file."""
    whole = hashlib.blake2b(digest_size=32)
    for found in _parts(path, size, hashlib.blake2b):
        whole.update(found)
    return whole.digest()


def fresh_digest(path: Path) -> bytes:
    """A digest of every byte of a file as it is now, whatever its times say: several cores compute it.

    Args:
        path: The file.

    Returns:
        32 bytes; another digest than `file_digest`'s.

    Raises:
        OSError: The file cannot be read.
    """
    size = path.stat().st_size
    whole = hashlib.sha256(str(size).encode())
    for found in _parts(path, size, hashlib.sha256):
        whole.update(found)
    return whole.digest()


def _parts(path: Path, size: int, kind: Callable[[], Any]) -> list[bytes]:
    """The digest of every `_PART` bytes of a file, in order."""

    def part(start: int) -> bytes:
        digest = kind()
        with path.open("rb") as file:
            file.seek(start)
            for _ in range(_PART // _CHUNK):
                digest.update(file.read(_CHUNK))
        return bytes(digest.digest())

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(part, range(0, size, _PART)))
