"""What people see in the terminal: plain lines, a progress bar where there is a terminal, and nothing under --quiet or --json."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from episodes.wording import counted

if TYPE_CHECKING:
    from episodes import Results

FEW_PICTURES = 30  # of which the share of right answers is known to 18 points at best
Advance = Callable[[int, int], None]


class Console:
    """Lines and bars go to standard error, so that standard output holds results alone."""

    def __init__(self, quiet: bool = False, stream: IO[str] | None = None) -> None:
        """Choose how much is said, and where.

        Args:
            quiet: say nothing but warnings.
            stream: standard error by default.
        """
        self.quiet = quiet
        self._stream = stream or sys.stderr
        self._say: Callable[[str], None] | None = None

    def line(self, text: str) -> None:
        """One line of progress."""
        if not self.quiet:
            self._write(text)

    def warn(self, text: str) -> None:
        """One line that is said even when quiet: something needs the user's eye."""
        self._write(f"warning: {text}")

    def _write(self, text: str) -> None:
        if self._say is not None:
            self._say(text)
        else:
            print(text, file=self._stream, flush=True)

    @contextmanager
    def bar(self, what: str, *, transient: bool = True) -> Iterator[Advance]:
        """A progress bar: call the yielded function with (done, total). Silent where there is no terminal."""
        if self.quiet or not self._stream.isatty():
            yield lambda done, total: None
            return
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        rich = RichConsole(file=self._stream)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=rich, transient=transient) as progress:
            task = progress.add_task(what, total=None)
            self._say = lambda text: rich.print(text, highlight=False, markup=False, soft_wrap=True)
            try:
                yield lambda done, total: progress.update(task, completed=done, total=total)
            finally:
                self._say = None


def duration(seconds: float) -> str:
    """95 -> "1 min 35 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def interval(low: float, high: float) -> str:
    """0.471, 0.5533 -> "47.1 to 55.3 %"; a dash where it is not known."""
    return f"{100 * low:.1f} to {100 * high:.1f} %" if low == low else "-"


def accuracy_text(results: Results) -> str:
    """The accuracy with its interval, or in words where it is of so few pictures that episodes drawn from them say nothing new.

    Args:
        results: of validation episodes.
    """
    return accuracy_of(results.mean, results.ci95, len(set(results.row.tolist())))


def accuracy_of(mean: float, ci95: float, pictures: int) -> str:
    """An accuracy with its interval; of fewer than `FEW_PICTURES` pictures it says so in the interval's place."""
    if pictures >= FEW_PICTURES:
        return percent(mean, ci95)
    return f"{percent(mean, float('nan'))} of only {counted(pictures, 'picture')}, too few for an interval"


def percent(mean: float, ci95: float) -> str:
    """0.8123, 0.0044 -> "81.2 ± 0.4 %"."""
    if mean != mean:
        return "unknown"
    return f"{100 * mean:.1f} ± {100 * ci95:.1f} %" if ci95 == ci95 else f"{100 * mean:.1f} %"
