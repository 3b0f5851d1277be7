"""File names and files: natural order, names fit to print, picture suffixes, atomic writing.

Everything that reads or writes folders shares these, so that every part orders and names alike.
"""

import errno
import io
import os
import re
import secrets
import shutil
import stat
import string
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote

from episodes.errors import DataError

# HEIC and AVIF are listed though not every Pillow reads them: an unreadable picture is told, an
# unlisted one would be lost without a word.
PICTURE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff")
    + (".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".tga", ".avif", ".heic", ".heif")
)
MOST_TEXT_BYTES = 256 << 20  # of settings and notes; a run of a million classes has 30 MB
_DIGITS = re.compile("([0-9]+)")
_AMBIGUOUS_PERCENT = re.compile("%(?=[0-9A-Fa-f]{2})")
_SURROGATE = re.compile("[\ud800-\udfff]")
# What escaping writes for a byte that is not UTF-8, at any depth: "%FF", "%25FF", "%2525FF", ...
_ESCAPED_HIGH_BYTE = re.compile("%(?=(?:25)*[89A-F][0-9A-F])")
_ESCAPE = re.compile(rb"%(?:25(?=(?:25)*[89A-F][0-9A-F])|(?P<byte>[89A-F][0-9A-F]))")
_UNSAFE = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f]')


def open_regular(path: str | os.PathLike[str]) -> io.FileIO:
    """Open a file for reading, links followed, if it is a regular one; a FIFO or a device would wait or never end.

    Raises:
        OSError: it cannot be opened, or is no regular file; the message says what it is.
    """
    # Without blocking: the opening of a FIFO would wait for somebody who writes to it.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return io.FileIO(descriptor, "r")
    os.close(descriptor)
    kinds = (
        (stat.S_ISDIR, "folder"),
        (stat.S_ISFIFO, "FIFO"),
        (stat.S_ISCHR, "device"),
        (stat.S_ISBLK, "device"),
        (stat.S_ISSOCK, "socket"),
    )
    found = next((name for test, name in kinds if test(mode)), "something else")
    raise OSError(errno.EINVAL, f"a {found}, not a regular file")


def copy_regular(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Copy a regular file, links followed, to a new place.

    Raises:
        OSError: one of the two cannot be opened, or the target cannot be written; names that one.
    """
    with _naming(source):
        original = open_regular(source)
    with original, _naming(target), open(target, "xb") as copy:
        shutil.copyfileobj(original, copy)


def read_text(path: str | os.PathLike[str]) -> str:
    """The UTF-8 text of a regular file, links followed, such as the settings in a folder that comes from a stranger.

    Raises:
        OSError: it cannot be opened, is no regular file, or is larger than `MOST_TEXT_BYTES`.
        UnicodeDecodeError: it is something else than text.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MOST_TEXT_BYTES:
            raise OSError(
                errno.EFBIG, f"{size:,} bytes: more than the {MOST_TEXT_BYTES:,} that are read", os.fspath(path)
            )
        return file.readall().decode("utf-8")


def natural_key(name: str) -> tuple[object, ...]:
    """Sort key that puts ``task2`` before ``task10``; names equal but for leading zeros keep a fixed order.

    Digits are compared by length, then as text: the order of the numbers, of any length.
    """
    parts: list[object] = []
    for position, part in enumerate(_DIGITS.split(name)):
        if position % 2:
            significant = part.lstrip("0")
            parts.append((len(significant), significant))
        else:
            parts.append(part)
    return (tuple(parts), name)


def display_name(name: str) -> str:
    """``name`` as printable text, a text of its own for every name; :func:`name_on_disk` gives the name back.

    Bytes that are not UTF-8 (kept by Python as surrogates) become ``%XX``. A name that looks like one escaped so gets
    ``%25`` for the ``%`` in question: the file ``c%FF`` must not pass for the file whose second byte is FF. Every other
    name stays as it is, those with escaped UTF-8 (``caf%C3%A9``), as downloads have them, among them. Names are
    escaped once: escaping twice gives another text.
    """
    if not _needs_escape(name):
        return name
    return "".join(map(_escape_surrogate, _ESCAPED_HIGH_BYTE.sub("%25", name)))


def name_on_disk(shown: str) -> str:
    """The name that :func:`display_name` made ``shown`` from."""
    return _unescape(shown) if is_printable(shown) and _needs_escape(shown) else shown


def is_printable(name: str) -> bool:
    """Whether a name can be written as UTF-8: surrogates, which stand for other bytes, cannot."""
    return name.isascii() or not _SURROGATE.search(name)


def _needs_escape(name: str) -> bool:
    """Whether a name is not UTF-8, or becomes so when it is unescaped often enough: then it passes for an escaped one."""
    while is_printable(name):
        if "%" not in name or not _ESCAPED_HIGH_BYTE.search(name):
            return False
        name = _unescape(name)  # shorter each time
    return True


def _unescape(name: str) -> str:
    """One level of escapes less."""
    raw = _ESCAPE.sub(lambda match: bytes.fromhex(match["byte"].decode()) if match["byte"] else b"%", name.encode())
    return raw.decode("utf-8", "surrogateescape")


def _escape_surrogate(char: str) -> str:
    code = ord(char)
    if not 0xD800 <= code <= 0xDFFF:
        return char
    raw = bytes([code - 0xDC00]) if 0xDC80 <= code <= 0xDCFF else char.encode("utf-8", "surrogatepass")
    return "".join(f"%{byte:02X}" for byte in raw)


def folder_name(class_name: str) -> str:
    """A class name as one folder name that any file system takes; :func:`class_name_of` gives it back.

    ``/`` and other characters that file systems refuse become ``%XX``, and a leading dot too: a hidden
    folder would be passed over when read. Ordinary names stay as they are.
    """
    name = _AMBIGUOUS_PERCENT.sub("%25", class_name)
    name = _UNSAFE.sub(lambda match: f"%{ord(match.group()):02X}", name)
    if name.startswith("."):
        name = "%2E" + name[1:]
    if name.endswith((".", " ")):
        name = f"{name[:-1]}%{ord(name[-1]):02X}"
    return name


def class_name_of(folder: str) -> str:
    """The class name that :func:`folder_name` made ``folder`` from, as :func:`display_name` shows that."""
    return unquote(name_on_disk(folder), errors="surrogateescape")


def is_picture(name: str) -> bool:
    """Whether a file is taken for a picture: by its suffix, in any case; hidden files never are."""
    return not name.startswith(".") and name[name.rfind(".") :].lower() in PICTURE_SUFFIXES


@contextmanager
def atomic_write(
    path: str | os.PathLike[str], mode: str = "w", *, encoding: str | None = None, newline: str | None = None
) -> Iterator[IO[Any]]:
    """Open a file that takes ``path``'s place when the block ends well, and vanishes when it does not.

    A killed run leaves the old file or the new one, never half of one. A place that is no regular file
    (``/dev/stdout``, a pipe) is written directly. Text is UTF-8 with LF unless asked otherwise.

    Raises:
        DataError: the folder of ``path`` does not exist, or ``path`` is a folder.
    """
    if "b" not in mode:
        encoding, newline = encoding or "utf-8", "\n" if newline is None else newline
    # Asked of the path itself: a pipe behind /dev/stdout has a real path that cannot be opened.
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        with _naming(path), open(path, mode, encoding=encoding, newline=newline) as stream:
            yield stream
        return
    target = Path(os.path.realpath(path))
    _check_target(target, path)
    beside = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.tmp")
    try:
        with _naming(path):
            with open(beside, mode.replace("w", "x"), encoding=encoding, newline=newline) as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            if target.exists():
                os.chmod(beside, stat.S_IMODE(target.stat().st_mode))
            os.replace(beside, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise


@contextmanager
def _naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Name the file in an error that does not, as that of a full disk; a reader that has left is no fault of the file."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise


def _check_target(target: Path, asked: str | os.PathLike[str]) -> None:
    shown = display_name(os.fspath(asked))
    if target.is_dir():
        raise DataError(f"cannot write {shown}: it is a folder; give the name of a file")
    if not target.parent.is_dir():
        folder = display_name(str(target.parent))
        raise DataError(f"cannot write {shown}: there is no folder {folder}; make it, or give another place")


def numbered_name(number: int, total: int, suffix: str = "") -> str:
    """``number`` of ``total`` zero-padded to at least three digits, so that plain order is number order."""
    return f"{number:0{max(3, len(str(total)))}d}{suffix}"


def plain_suffix(name: str) -> str:
    """The lower-case suffix of ``name`` (``.jpg``), stripped of anything but ASCII letters and digits."""
    suffix = os.path.splitext(name)[1].lower()
    return "." + "".join(c for c in suffix if c in string.ascii_lowercase + string.digits) if suffix else ""
