"""The command line: find the command, parse its options, call the library, turn errors into exit statuses.

0 done; 1 failed, nothing half-written; 2 wrong usage; 3 done, but some input could not be read; 130 and 143 after SIGINT and
SIGTERM. Help and usage errors import neither torch nor pandas.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from episodes.errors import DataError, UsageError
from fewshot.commands.stopping import Terminated, stopping
from fewshot.distributed import rank_and_world
from fewshot.registry import COMMANDS, Entry

DONE, FAILED, USAGE, INCOMPLETE = 0, 1, 2, 3


def usage() -> str:
    """The text of `fewshot --help`."""
    commands = COMMANDS.entries
    width = max(map(len, commands))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in commands.items()]
    return "\n".join(
        [
            "usage: fewshot COMMAND [options]",
            "",
            "Few-shot image classification with CLIP.",
            "",
            "commands:",
            *lines,
            "",
            "fewshot COMMAND --help tells a command's options. Try first: fewshot demo",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = COMMANDS.entries.get(arguments[0]) if arguments else None
    if command is None:
        return _guarded("fewshot", lambda: _tell(arguments))
    if rank_and_world()[0] > 0 and not command.traits.get("every_process"):
        return DONE  # of several processes that torchrun started, one does what cannot be shared
    return _guarded(f"fewshot {command.name}", lambda: _run(command, arguments[1:]))


def _tell(arguments: Sequence[str]) -> int:
    """Help and the version, or which commands there are where none of them was named."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage(), file=sys.stdout if arguments else sys.stderr)
        return DONE if arguments else USAGE
    if arguments[0] == "--version":
        from fewshot.version import __version__

        print(f"fewshot {__version__}")
        return DONE
    print(f"fewshot: there is no command {arguments[0]!r}\n\n{usage()}", file=sys.stderr)
    return USAGE


def _run(entry: Entry, arguments: list[str]) -> int:
    """Parse the options of a command, and do it."""
    module = importlib.import_module(entry.place.partition(":")[0])
    options = parse(module.Options, entry.name, arguments)
    _plain_output()
    _plain_warnings()
    status: int = module.run(options)
    return status


def _guarded(called: str, work: Callable[[], int]) -> int:
    """Every expected failure ends in one message and its status."""
    _open_streams()
    try:
        with stopping():
            try:
                status = work()
            except SystemExit:  # of a command's help
                sys.stdout.flush()
                raise
            sys.stdout.flush()
            return status
    except UsageError as error:
        print(f"{called}: {error}\n'{called} --help' tells the options", file=sys.stderr)
        return USAGE
    except DataError as error:
        print(f"{called}: {error}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:  # the reader of our output has left: nothing more to say, and no trace back either
        _give_up_output()
        return FAILED
    except OSError as error:
        where = ""
        if error.errno == errno.ENOSPC and error.filename is None:  # every file of ours is named
            where = " (standard output)"
            _give_up_output()
        print(f"{called}: {error}{where}", file=sys.stderr)
        return FAILED
    except (MemoryError, RuntimeError) as error:
        from fewshot.embedding.out_of_memory import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        said = (str(error).splitlines() or ["MemoryError"])[0][:200]
        print(
            f"{called}: memory is too short ({said}). Close other programs, or ask for less at a time", file=sys.stderr
        )
        return FAILED
    except KeyboardInterrupt:
        print(f"{called}: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except Terminated:
        print(f"{called}: terminated", file=sys.stderr)
        return 128 + signal.SIGTERM


def parse(options: type[Any], command: str, arguments: Sequence[str]) -> Any:
    """The options of a command from its arguments, `--train_data` and `--train-data` alike; exits with 2 where they are off."""
    import tyro

    settings = (tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes)
    read = functools.partial(
        tyro.cli, options, prog=f"fewshot {command}", args=list(arguments), config=settings, use_underscores=True
    )
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return read()
    except SystemExit as left:
        # tyro draws a box around what options refuse of themselves; it is said as all else that is refused.
        cause: BaseException | None = left
        while cause is not None:
            if isinstance(cause, UsageError):
                raise cause from None
            cause = cause.__context__
        if not left.code:
            raise
    return read()  # says on the terminal what is wrong, and exits


def _give_up_output() -> None:
    """What standard output still holds goes nowhere: Python would try again at its end, and fail with a trace back."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_streams() -> None:
    """Streams that whoever started this has closed take what is written to them, and nobody reads it."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 (for as long as the process lives)
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115 (for as long as the process lives)


def _plain_output() -> None:
    """Standard output takes names that are not UTF-8 as they are: a path in a hint can be copied."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")


def _plain_warnings() -> None:
    """Warnings of this project as one plain line; those of libraries are for developers, not for users."""
    import warnings

    warnings.filterwarnings("ignore", module=r"(torch|lightning|pkg_resources|clip|PIL)")

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        print(f"warning: {message}", file=sys.stderr)

    warnings.showwarning = show
