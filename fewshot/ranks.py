"""Which of several processes, started by torchrun, this one is. Without torch, for the command line."""

from __future__ import annotations

import os


def rank_and_world() -> tuple[int, int]:
    """This process's number and how many there are: (0, 1) without torchrun."""
    world = int(os.environ.get("WORLD_SIZE") or 1)
    return (int(os.environ.get("RANK") or 0), world) if world > 1 else (0, 1)


def local_rank() -> int | None:
    """This process's number on its machine; None without torchrun."""
    return int(os.environ.get("LOCAL_RANK") or 0) if rank_and_world()[1] > 1 else None
