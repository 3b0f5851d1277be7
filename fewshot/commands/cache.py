"""`fewshot cache`."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from fewshot.commands.common import print_json
from fewshot.registry import COMMANDS


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is kept on disk so that no picture is encoded twice. $FEWSHOT_CACHE names another folder."""

    action: Annotated[Literal["info", "clear"], tyro.conf.Positional, tyro.conf.arg(metavar="info|clear")]
    """info tells what is there, clear deletes it."""
    json: bool = False
    """Print one machine-readable document and nothing else."""


@COMMANDS.register("cache", "info or clear: the embeddings kept on disk", position=10)
def run(options: Options) -> int:
    """Print what is cached, or delete it."""
    from fewshot.embedding.cache import EmbeddingCache

    cache = EmbeddingCache()
    trunks = cache.path.parent / "trunks"
    if options.action == "clear":
        cache.clear()
        shutil.rmtree(trunks, ignore_errors=True)
    info = cache.info()
    cache.close()
    hidden_states_bytes = sum(path.stat().st_size for path in trunks.rglob("*") if path.is_file())
    if options.json:
        document = {"path": str(info.path), "entries": info.entries, "bytes": info.bytes, "max_bytes": info.max_bytes}
        print_json({**document, "trunks": str(trunks), "trunk_bytes": hidden_states_bytes})
    else:
        size, most = info.bytes / 2**20, info.max_bytes / 2**20
        print(f"{info.path}: {info.entries} embeddings, {size:.1f} MiB (at most {most:.0f} MiB)")
        print(f"{trunks}: {hidden_states_bytes / 2**20:.1f} MiB of frozen trunks for training")
    return 0
