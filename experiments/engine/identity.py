"""Which run is which: a hash of its settings, of the data's content, and of a version that is raised by hand."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import platform
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fewshot
from episodes.errors import DataError
from fewshot.config import FREE_ON_RESUME, TrainConfig

#: Raise it by hand when a change of the code changes results: runs of before are then run anew.
RESULTS_VERSION = 1
_CHUNK = 1 << 20
_DATA = ("train_data", "val_data")


def run_digest(config: TrainConfig) -> str:
    """What a run's folder is called.

    Args:
        config: Settings of the run; where it goes, how many processes load pictures and the like are left out, and data counts by
            its content, wherever it lies.

    Returns:
        16 hexadecimal digits.

    Raises:
        DataError: Data cannot be read.
    """
    settings = {name: value for name, value in config.to_json().items() if name not in FREE_ON_RESUME}
    for name in _DATA:
        path = getattr(config, name)
        settings[name] = None if path is None else data_fingerprint(path)
    if os.path.isfile(config.backbone):
        settings["backbone"] = _file_digest(Path(config.backbone))
    return digest_of({"version": RESULTS_VERSION, "settings": settings})


def digest_of(document: Any) -> str:
    """A hash of what JSON can say.

    Args:
        document: Of dictionaries, lists, texts and numbers; dataclasses count as dictionaries.

    Returns:
        16 hexadecimal digits.
    """
    text = json.dumps(document, sort_keys=True, default=dataclasses.asdict)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def data_fingerprint(root: Path) -> str:
    """A hash of every file's name and bytes below a folder; read once a process.

    Args:
        root: The folder.

    Returns:
        32 hexadecimal digits.

    Raises:
        DataError: There is no such folder, or a file cannot be read.
    """
    return _fingerprint(Path(os.path.abspath(root)))


@functools.lru_cache(maxsize=64)
def _fingerprint(root: Path) -> str:
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder; expected class folders or a directory of tasks")
    files = [os.path.join(folder, name) for folder, _, names in os.walk(root, followlinks=True) for name in names]
    found = sorted((os.path.relpath(path, root), path) for path in files if os.path.isfile(path))
    digest = hashlib.sha256()
    try:
        with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
            for (name, _), content in zip(found, pool.map(_file_digest, [path for _, path in found]), strict=True):
                digest.update(f"{content} {name}\n".encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror}), so {root} has no fingerprint") from error
    return digest.hexdigest()[:32]


def _file_digest(path: str | Path) -> str:
    digest = hashlib.blake2b(digest_size=20)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def circumstances() -> dict[str, Any]:
    """What is recorded of a run and not part of its hash: the git commit, versions, the machine's kind."""
    import torch

    return {
        "git": _git("rev-parse", "HEAD"),
        "git_changes": bool(_git("status", "--porcelain")),
        "fewshot": fewshot.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": platform.machine(),
    }


@functools.lru_cache(maxsize=8)
def _git(*arguments: str) -> str | None:
    """What git says of this checkout; None where it is none."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
