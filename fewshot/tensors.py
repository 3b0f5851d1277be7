"""Tensor files: safetensors with a JSON note in the header, moved into place whole. Nothing in them is ever executed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from torch import Tensor

from episodes.errors import DataError


def save_tensors(tensors: dict[str, Tensor], path: Path, note: dict[str, Any] | None = None) -> None:
    """Write a safetensors file beside its place and move it there; `note` travels as JSON in its header."""
    from safetensors.torch import save_file

    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        clean = {name: value.detach().cpu().contiguous().clone() for name, value in sorted(tensors.items())}
        save_file(clean, beside, metadata={"note": json.dumps(note)} if note is not None else None)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_tensors` wrote.

    Raises:
        DataError: the file is missing or broken.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, json.loads(metadata.get("note", "{}"))
    except Exception as error:
        raise DataError(f"{path}: cannot be read as a safetensors file ({type(error).__name__}: {error})") from error
