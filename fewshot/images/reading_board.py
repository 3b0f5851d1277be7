"""Which picture each loading process is reading, so that a crash can be blamed on a picture."""

from __future__ import annotations

import multiprocessing
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import connection
from typing import Any

import torch
from torch.utils.data import get_worker_info

from episodes.errors import DataError
from episodes.files import display_name


class ReadingBoard:
    """A row a process, in memory that all share: its number, and the table's row that it reads."""

    def __init__(self, workers: int) -> None:
        """Make room in shared memory for a line of each process.

        Args:
            workers: loading processes; 0 loads in the caller's, whose death leaves nobody to tell.
        """
        self._board = torch.full((max(workers, 1), 2), -1, dtype=torch.int64)
        if workers:
            self._board.share_memory_()  # type: ignore[no-untyped-call]

    def note(self, row: int) -> None:
        """Called in a loading process: note the row that it reads next."""
        info = get_worker_info()
        if info is not None:
            self._board.numpy()[info.id] = os.getpid(), row

    @contextmanager
    def naming_deaths(self, items: Sequence[Any]) -> Iterator[None]:
        """Turn the death of a loading process into an error that names the picture it was reading.

        Args:
            items: of the table whose rows were noted.

        Raises:
            DataError: In place of what torch says of the death.
        """
        try:
            yield
        except (RuntimeError, EOFError, ConnectionError, FileNotFoundError) as error:
            said = str(error) if isinstance(error, RuntimeError) else self._who_died()
            if "DataLoader worker" not in said:
                raise
            # torch tells it from a signal's handler or from the queue, with one number or several.
            dead = {int(number) for number in re.findall(r"\d+", said)}
            rows = [row for number, row in self._board.tolist() if number in dead and row >= 0]
            reason = said.splitlines()[0].rstrip(". ")
            raise DataError(f"{reason}. {_what_to_do([display_name(str(items[row])) for row in rows])}") from error

    def _who_died(self) -> str:
        """What torch says of a death, where what a process had loaded was being fetched from it as it died: "" if none has.

        The connection breaks before torch hears of the death, or while this looks: then its handler says it.
        """
        noted = {number for number, row in self._board.tolist() if row >= 0}
        try:
            living = [child for child in multiprocessing.active_children() if child.pid in noted]
            ended = connection.wait([child.sentinel for child in living], timeout=2 if len(living) == len(noted) else 0)
            gone = noted - {child.pid for child in living if child.sentinel not in ended}
        except RuntimeError as error:
            return str(error)
        numbers = ", ".join(str(number) for number in sorted(gone))
        return f"DataLoader worker (pid(s) {numbers}) exited unexpectedly" if gone else ""


def _what_to_do(paths: list[str]) -> str:
    memory = "if memory was short, use fewer --workers"
    if not paths:
        return f"It had not begun to read; {memory}"
    return f"It was reading {', '.join(paths)}: move that picture away if it happens there again; {memory}"
