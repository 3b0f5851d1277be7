"""Running a batch in halves, quarters, ... when memory is too short for the whole."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from episodes.errors import DataError

Smaller = Callable[[int], None]  # told of the size that is tried next, in place of a larger one


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was short, on a GPU or on the processor, which torch tells by its words alone."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


_WORDS = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "could not create a primitive",  # oneDNN
)


class Pieces:
    """Runs a function of batches of B; once memory is short, of pieces of them, for good.

    Results of another batch shape are not the same bits: who cares is told by `smaller` before any such result is given.
    """

    def __init__(self, size: int, smaller: Smaller | None) -> None:
        """Begin with whole batches.

        Args:
            size: B.
            smaller: told of every smaller size before it is tried; None refuses them.
        """
        self._size, self._smaller = size, smaller

    def run(self, function: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
        """(B, ...) -> what the function makes of it, (B, ...), on the CPU.

        Raises:
            DataError: Memory is too short even for one, or for B where nothing smaller will do.
        """
        while True:
            size = self._size
            try:
                # The last piece may be shorter: these bits are not promised.
                parts = [function(piece).cpu() for piece in torch.split(batch, size)]
                return parts[0] if len(parts) == 1 else torch.cat(parts)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                self._shrink(size, error)

    def _shrink(self, size: int, error: Exception) -> None:
        if size == 1 or self._smaller is None:
            raise DataError(
                f"memory is too short for a batch of {size} ({str(error).splitlines()[0][:200]}). Close other programs, or use a smaller "
                "backbone, fewer processes or another --device"
            ) from error
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if self._size == size:  # another thread may have been quicker
            self._smaller(size // 2)
            self._size = size // 2
