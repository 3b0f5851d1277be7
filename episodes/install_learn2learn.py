"""learn2learn: imported in silence, and `python -m episodes.install_learn2learn` builds 0.2.0 into this Python's environment.

Its release ships C generated for old Pythons, which today's headers refuse; translated anew by Cython 3 it builds. It needs a C
compiler. gym, which it imports, prints a notice of its own at every import unless gym-notices is an old one.
"""

import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from episodes.errors import UsageError

VERSION = "0.2.0"
_BUILDS_WITH = ("cython", "setuptools<81", "wheel")
_IMPORTS = ("gym>=0.26", "gym-notices<0.1", "requests>=2.31", "scipy>=1.11", "tqdm>=4.66")


_COMMAND = "python -m episodes.install_learn2learn"


def import_learn2learn() -> Any:
    """The module learn2learn, imported in silence: gym, which it loads, prints a notice at every import.

    Raises:
        UsageError: it is not installed; names the one command that installs it.
    """
    try:
        with _without_notices(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import learn2learn
    except ImportError as error:
        raise UsageError(
            f"learn2learn is not installed, or does not import ({error}). Install it with: {_COMMAND}"
        ) from error
    return learn2learn


@contextmanager
def _without_notices() -> Iterator[None]:
    try:
        from gym_notices.notices import notices
    except ImportError:
        notices = {}
    told = dict(notices)
    notices.clear()
    try:
        yield
    finally:
        notices.update(told)


def commands() -> list[list[str]]:
    """What is run, one after the other.

    Returns:
        Two calls of pip: for what learn2learn is built with and imports, and for itself.
    """
    pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    itself = ["--use-pep517", "--no-build-isolation", "--no-deps", "--no-cache-dir"]
    return [
        [*pip, "--quiet", *_BUILDS_WITH, *_IMPORTS],
        [*pip, *itself, "--config-settings=--global-option=build_ext", f"learn2learn=={VERSION}"],
    ]


def main() -> int:
    """Install it.

    Returns:
        0, or the exit status of the command that failed.
    """
    for command in commands():
        status = subprocess.run(command, check=False).returncode
        if status:
            print(
                f"learn2learn {VERSION} was not installed (above); it needs a C compiler and Python's headers. Everything else "
                "works without it",
                file=sys.stderr,
            )
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
