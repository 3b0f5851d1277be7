"""What makes encoders of weights files, as one digest: this package's code, and the releases of the libraries that it runs."""

from __future__ import annotations

import functools
import hashlib
from importlib import metadata
from pathlib import Path

from fewshot.version import __version__

_LIBRARIES = ("torch", "timm", "open_clip_torch", "clip-anytorch", "safetensors")


@functools.cache
def code_digest() -> bytes:
    """(32,) What was noted of an encoder holds as long as this stays the same."""
    digest = hashlib.sha256(__version__.encode())
    for library in _LIBRARIES:
        try:
            digest.update(f"|{library} {metadata.version(library)}".encode())
        except metadata.PackageNotFoundError:
            continue
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.digest()
