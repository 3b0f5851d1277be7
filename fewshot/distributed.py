"""Which of several processes, started by torchrun, this one is, and how they meet. Importable without torch, for the command line."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from episodes.errors import DataError, UsageError


def rank_and_world() -> tuple[int, int]:
    """This process's number and how many there are: (0, 1) without torchrun."""
    world = int(os.environ.get("WORLD_SIZE") or 1)
    return (int(os.environ.get("RANK") or 0), world) if world > 1 else (0, 1)


def local_rank() -> int | None:
    """This process's number on its machine; None without torchrun."""
    return int(os.environ.get("LOCAL_RANK") or 0) if rank_and_world()[1] > 1 else None


def leave_signals_to_parent(_: int = 0) -> None:
    """Make a loading process deaf to SIGTERM and SIGINT: `timeout` and schedulers tell the whole group, the parent ends its own.

    A parent that is stopped while it fetches a batch breaks off a connection of the loading process: no reason for a trace back.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = _but_for_lost_connections


def _but_for_lost_connections(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, trace)


def is_main_process() -> bool:
    """Whether this process is the one that reports (of several that torchrun started)."""
    return rank_and_world()[0] == 0


@contextmanager
def process_group() -> Iterator[None]:
    """Connects the processes; nothing where there is one.

    Raises:
        UsageError: there are said to be several, but not where they meet.
    """
    world = rank_and_world()[1]
    if world == 1:
        yield
        return
    if "MASTER_ADDR" not in os.environ:
        raise UsageError(
            f"WORLD_SIZE is {world}, but MASTER_ADDR is not set: start the processes with torchrun, or unset WORLD_SIZE"
        )
    import datetime  # only here: `fewshot --help` imports this module

    import torch.distributed

    # As long as the slowest share takes.
    torch.distributed.init_process_group("gloo", timeout=datetime.timedelta(days=1))
    with leave_together():
        yield


@contextmanager
def leave_together() -> Iterator[None]:
    """Ends the process group, if there is one, when the work inside is done or has failed.

    A group that is left to the interpreter's end still has its threads by then. One that asks for Python at that moment
    kills the process, after all work is done: "terminate called without an active exception", exit status 1 under torchrun.
    Where the work was done, no process leaves before the last has come here: whoever serves the others must outlive them.

    Raises:
        DataError: another process of the run has ended, so that this one cannot go on.
    """
    import torch.distributed

    try:
        yield
        if torch.distributed.is_initialized():
            torch.distributed.barrier()
    except RuntimeError as error:
        if not is_of_a_lost_process(error):
            raise
        raise DataError(
            f"process {rank_and_world()[0]} of {rank_and_world()[1]} has lost another one, which failed or was killed "
            f"(torchrun names it below): {_first_line(error)}"
        ) from error
    finally:
        if torch.distributed.is_initialized():
            gc.collect()  # what still refers to the group in a cycle, such as the reducer of gradients
            torch.distributed.destroy_process_group()


def is_of_a_lost_process(error: BaseException) -> bool:
    """Whether an error says that a connection to another process broke, as gloo, NCCL and the store put it."""
    import torch.distributed

    if not isinstance(error, RuntimeError) or not torch.distributed.is_initialized():
        return False
    signs = ("connection closed by peer", "connection reset", "connection was likely closed", "broken pipe", "gloo")
    lost = (torch.distributed.DistNetworkError, torch.distributed.DistBackendError)
    return isinstance(error, lost) or any(sign in str(error).lower() for sign in signs)


def _first_line(error: RuntimeError) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
