"""Values of the cache with a digest: no flipped bit goes unnoticed, and no value passes for another's."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

# Odd, so that the lengths of values with a digest and of those that older versions stored without one are never the same: each
# version passes over what the other wrote.
_DIGEST_BYTES = 9


def _digest(key: bytes, value: bytes) -> bytes:
    """A digest of value and key together: it shows flipped bits, and values stored under a wrong key."""
    digest = hashlib.blake2b(key, digest_size=_DIGEST_BYTES)
    digest.update(value)
    return digest.digest()


def with_digest(key: bytes, vector: npt.NDArray[np.float32]) -> bytes:
    """The bytes of a vector (D,) followed by their digest."""
    return sealed(key, np.ascontiguousarray(vector, dtype="<f4").tobytes())


def sealed(key: bytes, value: bytes) -> bytes:
    """A value and the digest of it and its key."""
    return value + _digest(key, value)


def unsealed(key: bytes, stored: object) -> bytes | None:
    """The value of what `sealed` made, or None where a bit of it, or of its key, is another."""
    if not isinstance(stored, bytes) or len(stored) < _DIGEST_BYTES:
        return None
    value = stored[:-_DIGEST_BYTES]
    return value if _digest(key, value) == stored[-_DIGEST_BYTES:] else None


def checked(key: bytes, stored: object) -> npt.NDArray[np.float32] | None:
    """The vector (D,) that `with_digest` packed; None if any bit of it or of its key has changed."""
    if not isinstance(stored, bytes) or len(stored) % 4 != _DIGEST_BYTES % 4:
        return None
    value = unsealed(key, stored)
    return None if value is None else np.frombuffer(value, dtype="<f4")


def is_of_an_older_version(stored: object) -> bool:
    """Whether it is a value without a digest."""
    return isinstance(stored, bytes) and len(stored) % 4 == 0
