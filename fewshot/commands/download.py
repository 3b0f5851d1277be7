"""`fewshot download`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Options:
    """Fetch the weights of one of OpenAI's CLIP models; verified by SHA-256, continued where an earlier attempt broke off."""

    model_name: str = "ViT-B/32"
    """RN50, RN101, RN50x4, RN50x16, RN50x64, ViT-B/32, ViT-B/16, ViT-L/14, ViT-L/14@336px."""
    download_root: Path | None = None
    """Where to put it; ~/.cache/clip by default, where the clip package looks too."""
    mirror: str | None = None
    """Address of a folder that holds the files by name (such as ViT-B-32.pt), instead of OpenAI's server."""
    quiet: bool = False
    """Print only the result."""


def run(options: Options) -> int:
    """Download, with a bar."""
    from fewshot.console import Console
    from fewshot.encoders.download import download

    console = Console(options.quiet)
    with console.bar(options.model_name) as advance:
        path = download(options.model_name, options.download_root, mirror=options.mirror, progress=advance)
    print(path)
    return 0
