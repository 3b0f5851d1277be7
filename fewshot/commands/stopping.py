"""SIGINT and SIGTERM as exceptions that unwind a command, and that are not lost where Python drops exceptions.

What is raised inside a hook of `os.fork`, a finaliser or a library's callback is printed and dropped. A scheduler says SIGTERM once and
SIGKILL half a minute later, so whatever was dropped is raised again.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_AGAIN = 1.0  # seconds after which it is looked whether the command is ending


class Terminated(BaseException):
    """SIGTERM arrived; unwinds as KeyboardInterrupt does for SIGINT."""


_RAISED: dict[int, type[BaseException]] = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}


@contextmanager
def stopping() -> Iterator[None]:
    """Meanwhile SIGINT raises KeyboardInterrupt and SIGTERM `Terminated`, in this process's main thread and until it takes effect."""
    owner, wanted = os.getpid(), list[int]()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a process that was just forked, and does not look after itself yet: the parent tells
            os._exit(128 + number)
        if number in _RAISED:
            wanted.append(number)
        elif not wanted or _is_stopping():
            return
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, _AGAIN)
        raise _RAISED[wanted[-1]]

    # What a shell starts in the background ignores SIGINT, and goes on doing so.
    heard = [number for number in _RAISED if signal.getsignal(number) != signal.SIG_IGN or number == signal.SIGTERM]
    numbers = [*heard, *([signal.SIGALRM] if hasattr(signal, "setitimer") else [])]
    before = {number: signal.signal(number, stop) for number in numbers}
    hook = sys.unraisablehook
    sys.unraisablehook = lambda dropped: (
        None if issubclass(dropped.exc_type, tuple(_RAISED.values())) else hook(dropped)
    )
    try:
        yield
    finally:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook


def _is_stopping() -> bool:
    """Whether what was raised is unwinding the stack: then what is interrupted is a clean-up on its way."""
    error = sys.exc_info()[1]
    while error is not None:
        if isinstance(error, tuple(_RAISED.values())):
            return True
        error = error.__context__
    return False
