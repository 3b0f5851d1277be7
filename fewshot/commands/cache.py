"""`fewshot cache`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from fewshot.commands.common import print_json


@dataclass(frozen=True, kw_only=True)
class Options:
    """The embeddings kept on disk, so that no picture is encoded twice. $FEWSHOT_CACHE names another folder."""

    action: Annotated[Literal["info", "clear"], tyro.conf.Positional, tyro.conf.arg(metavar="info|clear")]
    """info tells what is there, clear deletes it."""
    json: bool = False
    """Print one machine-readable document and nothing else."""


def run(options: Options) -> int:
    """Tell or delete."""
    from fewshot.cache import EmbeddingCache

    cache = EmbeddingCache()
    if options.action == "clear":
        cache.clear()
    info = cache.info()
    cache.close()
    if options.json:
        print_json({"path": str(info.path), "entries": info.entries, "bytes": info.bytes, "max_bytes": info.max_bytes})
    else:
        print(
            f"{info.path}: {info.entries} embeddings, {info.bytes / 2**20:.1f} MiB (at most {info.max_bytes / 2**20:.0f} MiB)"
        )
    return 0
