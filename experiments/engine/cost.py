"""What a run costs: seconds, and the most memory it held at a time."""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class Cost:
    """Of one run in this process.

    Attributes:
        wall_seconds: From beginning to end of the attempt that finished it.
        peak_memory_mb: Of this process, what it held before included.
        peak_gpu_memory_mb: What torch held on the GPU; 0 without one.
    """

    wall_seconds: float = 0.0
    peak_memory_mb: float = 0.0
    peak_gpu_memory_mb: float = 0.0

    def to_json(self) -> dict[str, float]:
        """Name -> number."""
        return {name: round(value, 3) for name, value in asdict(self).items()}


@contextmanager
def costs() -> Iterator[Cost]:
    """Measure what the block costs.

    Yields:
        Where the numbers are once the block has ended.
    """
    import torch

    cost, started = Cost(), time.perf_counter()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    _forget_peak()
    try:
        yield cost
    finally:
        cost.wall_seconds = time.perf_counter() - started
        cost.peak_memory_mb = _peak() / 2**20
        if torch.cuda.is_available():
            cost.peak_gpu_memory_mb = torch.cuda.max_memory_allocated() / 2**20


def let_go() -> None:
    """Give back what the run before held: its objects, and under glibc the memory that the allocator keeps for later."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _forget_peak() -> None:
    """Let Linux count anew; elsewhere the peak is that of the process's whole life."""
    try:
        _RESET.write_text("5")
    except OSError:
        pass


def _peak() -> int:
    """Bytes that this process held at most since `_forget_peak`."""
    try:
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
