"""`fewshot download`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fewshot.registry import COMMANDS


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


@COMMANDS.register("download", "fetch the weights of a CLIP, open_clip or timm model", position=6)
def run(options: Options) -> int:
    """Download, with a bar."""
    from fewshot.console import Console
    from fewshot.encoders import family_of

    with Console(options.quiet).bar(options.model_name) as advance:
        path = family_of(options.model_name).download(
            options.model_name, options.download_root, mirror=options.mirror, quiet=options.quiet, progress=advance
        )
    print(path)
    return 0
