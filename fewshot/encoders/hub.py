"""Weights files of open_clip and timm: fetched from the Hugging Face hub by its own client, found again without a network.

They lie below the same folder as OpenAI's weights, as the hub's client arranges them. Only `fetch` uses the network.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from episodes.errors import DataError, UsageError
from fewshot.encoders.code import code_digest
from fewshot.encoders.download import default_root
from fewshot.encoders.family import EncoderFamily, Notes, Progress
from fewshot.encoders.offline import strongest_offline
from fewshot.tensors import sha256_of


@dataclass(frozen=True)
class HubWeights:
    """Where the weights of a backbone are published.

    Attributes:
        backbone: as the command line names it, such as "timm:resnet18.a1_in1k".
        repository: on the hub, `owner/name`.
        files: names that the weights may have there, the preferred one first.
    """

    backbone: str
    repository: str
    files: tuple[str, ...]


def import_extra(module: str, package: str) -> Any:
    """An optional library.

    Raises:
        UsageError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            f"this backbone needs the package {package}, which cannot be imported ({error}). Install it with: pip install {package}"
        ) from error


def find(weights: HubWeights, download_root: str | Path | None = None) -> Path:
    """The weights file on this machine; never looks elsewhere.

    Raises:
        DataError: it was not downloaded; the message gives the command.
    """
    hub = import_extra("huggingface_hub", "huggingface_hub")
    root = Path(download_root or default_root())
    for name in weights.files:
        found = hub.try_to_load_from_cache(weights.repository, name, cache_dir=root)
        if isinstance(found, str) and Path(found).is_file():
            return Path(found)
    place = f" --download_root {root}" if download_root else ""
    raise DataError(
        f"the weights of {weights.backbone} are not on this machine: expected {' or '.join(weights.files)} of {weights.repository} below "
        f"{root}. Fetch them with: fewshot download --model_name {weights.backbone}{place}   (nothing is downloaded unasked; the "
        f"strongest encoder on this machine needs no download: --backbone {strongest_offline()})"
    )


def fetch(
    weights: HubWeights, download_root: str | Path | None = None, *, mirror: str | None = None, quiet: bool = False
) -> Path:
    """Download the weights, continued where an earlier attempt broke off, and verify the SHA-256 that the hub gives for them.

    Args:
        weights: which.
        download_root: the folder; OpenAI's weights lie there too.
        mirror: address of a server that answers as the hub does.
        quiet: no bar.

    Raises:
        DataError: the network, the server or the file failed.
    """
    hub = import_extra("huggingface_hub", "huggingface_hub")
    root = Path(download_root or default_root())
    for name in weights.files:
        try:
            with _bars(hub, quiet):
                path = hub.hf_hub_download(weights.repository, name, cache_dir=root, endpoint=mirror)
        except Exception as error:  # the client's own errors, those of its HTTP library, and of the disk
            absent = isinstance(error, hub.errors.EntryNotFoundError)
            if absent and not isinstance(error, hub.errors.LocalEntryNotFoundError):
                continue
            raise DataError(
                f"could not download {name} of {weights.repository}: {' '.join(str(error).split())[:300]}. Without a network, run the "
                f"command on another machine and copy what it puts below {root}; try a mirror of the hub with --mirror URL, or use the "
                f"strongest encoder on this machine with --backbone {strongest_offline()}"
            ) from error
        return _verified(Path(path))
    raise DataError(f"{weights.repository} holds none of {', '.join(weights.files)}; choose another model or tag")


@contextmanager
def _bars(hub: Any, quiet: bool) -> Iterator[None]:
    """Without the client's progress bars where it is to be quiet; they are a setting of the whole process."""
    silence = quiet and not hub.utils.are_progress_bars_disabled()
    if silence:
        hub.utils.disable_progress_bars()
    try:
        yield
    finally:
        if silence:
            hub.utils.enable_progress_bars()


def _verified(path: Path) -> Path:
    """The hub's client names a large file by its SHA-256; compare where it did."""
    blob = path.resolve()
    if re.fullmatch(r"[0-9a-f]{64}", blob.name):
        found = sha256_of(blob)
        if found != blob.name:
            path.unlink()
            blob.unlink(missing_ok=True)
            raise DataError(
                f"{path}: has SHA-256 {found}, the hub says {blob.name}; it was deleted. Run the command again"
            )
    return path


def _from_json(noted: bytes) -> HubWeights:
    fields = json.loads(noted)
    return HubWeights(fields["backbone"], fields["repository"], tuple(fields["files"]))


class HubFamily(EncoderFamily):
    """A family whose weights are published on the Hugging Face hub. Subclasses say where, and the rest of `EncoderFamily`."""

    def published(self, backbone: str) -> HubWeights:
        """Name the repository and the files of a backbone.

        Raises:
            UsageError: there is no such model, or its library is not installed.
        """
        raise NotImplementedError

    def weights_files(
        self, backbone: str, download_root: str | Path | None = None, notes: Notes | None = None
    ) -> list[Path] | None:
        """See `EncoderFamily.weights_files`; where they are published is noted: only the library knows, and its import takes seconds."""
        key = hashlib.sha256(f"published|{backbone}|".encode() + code_digest()).digest()
        noted = notes.get_note(key) if notes is not None else None
        weights = _from_json(noted) if noted is not None else self.published(backbone)
        if notes is not None and noted is None:
            notes.put_note(key, json.dumps(asdict(weights)).encode())
        return [find(weights, download_root)]

    def download(
        self,
        backbone: str,
        download_root: str | Path | None = None,
        *,
        mirror: str | None = None,
        quiet: bool = False,
        progress: Progress | None = None,
    ) -> Path:
        """See `EncoderFamily.download`; `mirror` is a server that answers as the hub does, and the bar is the hub client's own."""
        return fetch(self.published(backbone), download_root, mirror=mirror, quiet=quiet)
