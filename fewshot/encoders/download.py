"""Fetch OpenAI's CLIP weights: verified, atomic, resumed where it broke off. The only place that uses the network."""

from __future__ import annotations

import ast
import functools
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from episodes.errors import DataError, UsageError
from fewshot.encoders._clip_import import clip_folder
from fewshot.encoders.offline import strongest_offline
from fewshot.tensors import sha256_of

Progress = Callable[[int, int], None]  # bytes so far, bytes in all (0 where the server does not say)
_CHUNK = 1 << 20
_TIMEOUT = 30.0  # seconds without a byte
_MOST_BYTES = 4 << 30  # the largest model has less than 2 GB


def model_urls() -> dict[str, str]:
    """OpenAI's models, as the `clip` package lists them; its source is read, not imported, which would take seconds.

    Returns:
        Name -> address; the folder in each address is the file's SHA-256.

    Raises:
        ImportError: the package is not installed, or lists no models.
    """
    return dict(_model_urls())


@functools.cache
def _model_urls() -> dict[str, str]:
    file = clip_folder() / "clip.py"
    for statement in ast.parse(file.read_text(encoding="utf-8")).body:
        names = [target.id for target in getattr(statement, "targets", ()) if isinstance(target, ast.Name)]
        if isinstance(statement, ast.Assign) and "_MODELS" in names:
            return dict(ast.literal_eval(statement.value))
    raise ImportError(f"{file} lists no models. Install OpenAI's clip with: pip install 'clip-anytorch>=2'")


def default_root() -> Path:
    """Where the `clip` package keeps its weights, so that both find each other's files.

    Returns:
        A folder in the user's home.
    """
    return Path(os.path.expanduser("~/.cache/clip"))


def weights_file(name: str, download_root: str | Path | None = None) -> Path:
    """Where the weights of an OpenAI model lie once downloaded.

    Args:
        name: Such as "ViT-B/32".
        download_root: The folder; `default_root` by default.

    Returns:
        The file, there or not.
    """
    return Path(download_root or default_root()) / model_urls()[name].rsplit("/", 1)[1]


def download(
    name: str, download_root: str | Path | None = None, *, mirror: str | None = None, progress: Progress | None = None
) -> Path:
    """Download one of OpenAI's models and return its file; a file that is there and correct is not fetched again.

    An interrupted download leaves `<file>.part`, which the next call continues where the server allows it, else restarts. The
    file takes its name only when its SHA-256 is right.

    Args:
        name: Such as "ViT-B/32".
        download_root: The folder; `~/.cache/clip` by default.
        mirror: Address of a folder that holds the files by their names (`ViT-B-32.pt`), instead of OpenAI's server.
        progress: Called with (bytes so far, bytes in all).

    Returns:
        The file.

    Raises:
        UsageError: No such model.
        DataError: The network, the server or the file failed; says what to do.
    """
    urls = model_urls()
    if name not in urls:
        raise UsageError(f"no CLIP model is called {name!r}; there are {', '.join(urls)}")
    expected = urls[name].split("/")[-2]
    target = weights_file(name, download_root)
    if target.is_file() and sha256_of(target) == expected:
        return target
    url = f"{mirror.rstrip('/')}/{target.name}" if mirror else urls[name]
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, part, progress)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DataError(
            f"could not download {name} from {url}: {error}. Without a network, fetch that file on another machine and put it at {target} "
            f"(or give its path as --backbone), try a mirror with --mirror URL, or use the strongest encoder on this machine with "
            f"--backbone {strongest_offline()}"
        ) from error
    found = sha256_of(part)
    if found != expected:
        part.unlink()
        raise DataError(
            f"{url}: the file that came has SHA-256 {found}, expected {expected}; it was deleted. Run the command again, or "
            "try another --mirror"
        )
    os.replace(part, target)
    return target


def _fetch(url: str, part: Path, progress: Progress | None) -> None:
    """Append what is missing to `part`, from where it ends; from the start where the server cannot continue."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:  # 416: nothing beyond what is there, or another file than before
            raise
        total = (error.headers.get("Content-Range") or "").rpartition("/")[2]
        if total == str(have):
            return
        part.unlink()
        return _fetch(url, part, progress)
    with response:
        resumed = have and response.status == 206
        done = have if resumed else 0
        length = response.headers.get("Content-Length")
        total_bytes = done + int(length) if length else 0
        _refuse_endless(total_bytes, part)
        with part.open("ab" if resumed else "wb") as file:
            while chunk := _next_chunk(response):
                file.write(chunk)
                done += len(chunk)
                _refuse_endless(done, part)
                if progress is not None:
                    progress(done, total_bytes)
        if total_bytes and done != total_bytes:
            raise OSError(
                f"the connection broke after {done:,} of {total_bytes:,} bytes; run the command again to continue"
            )


def _next_chunk(response: Any) -> bytes:
    """Some bytes as they come, b"" at the end; a server that falls silent is not waited for forever.

    Raises:
        OSError: Nothing came for a while, or the connection broke.
    """
    try:
        return bytes(response.read1(_CHUNK))
    except TimeoutError as error:
        raise OSError(
            f"the server has sent nothing for {_TIMEOUT:g} s; run the command again to continue where it stopped"
        ) from error


def _refuse_endless(size: int, part: Path) -> None:
    """Raises OSError: it is more than any of these models is; what came of it is deleted before it fills the disk."""
    if size > _MOST_BYTES:
        part.unlink(missing_ok=True)
        raise OSError(f"the server offers more than {_MOST_BYTES:,} bytes, which none of these models has")
