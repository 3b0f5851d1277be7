"""Tensor files: safetensors, moved into place whole, with a digest that shows every flipped bit. Nothing in them is ever executed.

A file with a note carries its own digest, of the note and of every tensor. The digest of a file without one is kept by whoever
wrote it: ``config.json`` for a run's ``model.safetensors``, the source code for the files that ship with the package.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from episodes.errors import DataError

_CHUNK = 1 << 20
_NOTE, _DIGEST = "note", "sha256"  # keys of the header's metadata


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file.

    Args:
        path: The file.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def tensors_digest(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """The SHA-256 of tensors and of a text: names, shapes, types and every bit count, the order does not.

    Args:
        tensors: By name, of any shapes.
        text: Whatever else is to be covered.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256(text.encode())
    with ThreadPoolExecutor(4) as pool:  # hashing lets other threads run
        for part in pool.map(tensor_digest, sorted(tensors), [tensors[name] for name in sorted(tensors)]):
            digest.update(part)
    return digest.hexdigest()


def tensor_digest(name: str, tensor: Tensor) -> bytes:
    """The SHA-256 of one tensor with its name, shape and type.

    Args:
        name: Its name.
        tensor: Of any shape, on any device.

    Returns:
        32 bytes.
    """
    digest = hashlib.sha256(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
    raw = tensor.detach().contiguous().cpu().reshape(-1).view(torch.uint8)
    digest.update(raw.numpy().data)
    return digest.digest()


@contextmanager
def tensors_beside(tensors: Mapping[str, Tensor], path: Path, note: dict[str, Any] | None = None) -> Iterator[str]:
    """Write a safetensors file beside its place, and move it there when the block ends well.

    Args:
        tensors: By name, of any shapes.
        path: Where the file goes.
        note: Travels as JSON in its header, with a digest of itself and the tensors.

    Yields:
        The SHA-256 of the file, to be noted down before the file is there.

    Raises:
        DataError: The disk is full, or cannot be written to.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        clean = {name: value.detach().cpu().contiguous().clone() for name, value in sorted(tensors.items())}
        text = json.dumps(note)
        metadata = {_NOTE: text, _DIGEST: tensors_digest(clean, text)} if note is not None else None
        try:
            save_file(clean, beside, metadata=metadata)
        except SafetensorError as error:  # of a full disk too, which is no OSError there
            raise DataError(f"{path}: cannot be written ({error}). Make room, or name another place") from error
        yield sha256_of(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def save_tensors(tensors: Mapping[str, Tensor], path: Path, note: dict[str, Any] | None = None) -> None:
    """Write a safetensors file beside its place and move it there.

    Args:
        tensors: By name, of any shapes.
        path: Where the file goes.
        note: Travels as JSON in its header, with a digest of itself and the tensors.
    """
    with tensors_beside(tensors, path, note):
        pass


def load_tensors(path: Path, sha256: str | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_tensors` wrote, checked against its digest.

    Args:
        path: The file.
        sha256: What the file's SHA-256 must be; None where only a digest in its own header can be checked.

    Returns:
        The tensors by name, and the note.

    Raises:
        DataError: The file is missing or broken, differs from its digest, or holds a number that is not finite.
    """
    with ThreadPoolExecutor(1) as pool:  # the file is hashed while its tensors are read
        hashed = pool.submit(sha256_of, path) if sha256 is not None else None
        try:
            tensors, metadata = _read(path)
        except Exception as error:
            raise DataError(
                f"{path}: cannot be read as a safetensors file ({type(error).__name__}: {str(error)[:200]}). The file is cut off, "
                "damaged or something else: copy it anew from where it came from"
            ) from error
        found = hashed.result() if hashed is not None else None
    if found != sha256:
        raise DataError(
            f"{path}: has SHA-256 {found}, expected {sha256}: the file is damaged, or belongs to another run. Copy it anew, together "
            "with the files beside it"
        )
    text = metadata.get(_NOTE, "{}")
    stored = metadata.get(_DIGEST)
    if stored is not None and stored != tensors_digest(tensors, text):
        raise DataError(
            f"{path}: differs from the digest in its own header: the file is damaged. Copy it anew, or do without it"
        )
    refuse_not_finite(tensors, path)
    return tensors, _note(text, path)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118


def _note(text: str, path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: the note in its header cannot be read ({error}). Copy the file anew") from error


def refuse_not_finite(tensors: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    """Refuse weights that would make every answer NaN.

    Args:
        tensors: By name, of any shapes; attention masks, which are infinite by design, are passed over.
        path: The file that they came from.

    Raises:
        DataError: One holds NaN or an infinity; names it and the file.
    """
    for name, tensor in tensors.items():
        if name.endswith("attn_mask") or not tensor.is_floating_point() or tensor.numel() == 0 or _all_finite(tensor):
            continue
        bad = int((~torch.isfinite(tensor.float())).sum())
        raise DataError(
            f"{os.fspath(path)}: {name} holds {bad:,} numbers of {tensor.numel():,} that are not finite (NaN or infinite). The file is "
            "damaged, or its training had failed: get it anew"
        )


def _all_finite(tensor: Tensor) -> bool:
    """One pass that allocates nothing: the least and the greatest tell of NaN and of infinities."""
    if tensor.element_size() < 2:  # float8 knows no such pass
        return bool(torch.isfinite(tensor.float()).all())
    return bool(torch.isfinite(torch.stack(torch.aminmax(tensor))).all())
