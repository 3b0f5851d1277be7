"""`fewshot download`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Options:
    """Fetch the weights of a backbone; verified by SHA-256, continued where an earlier attempt broke off."""

    model_name: str = "ViT-B/32"
    """RN50, RN101, RN50x4, RN50x16, RN50x64, ViT-B/32, ViT-B/16, ViT-L/14, ViT-L/14@336px, open_clip:<model>/<tag> or timm:<name>."""
    download_root: Path | None = None
    """Where to put it; ~/.cache/clip by default, where the clip package looks too."""
    mirror: str | None = None
    """Address of a folder that holds the files by name (such as ViT-B-32.pt), instead of OpenAI's server; for open_clip and timm of a
    server that answers as the Hugging Face hub does."""
    quiet: bool = False
    """Print only the result."""


def run(options: Options) -> int:
    """Download, with a bar."""
    from fewshot.console import Console
    from fewshot.encoders import open_clip_models, timm_models
    from fewshot.encoders.download import download

    for family in (open_clip_models, timm_models):
        if options.model_name.startswith(family.PREFIX):
            root = options.download_root
            print(family.fetch(options.model_name, root, mirror=options.mirror, quiet=options.quiet))
            return 0
    console = Console(options.quiet)
    with console.bar(options.model_name) as advance:
        path = download(options.model_name, options.download_root, mirror=options.mirror, progress=advance)
    print(path)
    return 0
