"""`fewshot doctor`."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from dataclasses import dataclass
from typing import Any

from fewshot.commands.common import print_json
from fewshot.registry import COMMANDS

_PACKAGES = (
    "torch",
    "torchvision",
    "clip-anytorch",
    "open_clip_torch",
    "timm",
    "numpy",
    "pandas",
    "pillow",
    "scikit-learn",
    "lightning-fabric",
    "learn2learn",
    "tensorboard",
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What this machine has, and what is missing."""

    json: bool = False
    """Print one machine-readable document and nothing else."""


@COMMANDS.register("doctor", "what this machine has, and what is missing", position=9)
def run(options: Options) -> int:
    """Examine the machine and print what was found."""
    report = examine()
    if options.json:
        print_json(report)
        return 0
    width = max(len(key) for key in report)
    for key, value in report.items():
        print(f"{key:<{width}}  {value}")
    return 0


def examine() -> dict[str, Any]:
    """Facts about the machine, by name: versions, devices, encoders, extras."""
    import torch

    from fewshot.device import resolve_device, resolve_precision
    from fewshot.embedding.cache import EmbeddingCache
    from fewshot.encoders import present_backbones
    from fewshot.encoders.download import model_urls
    from fewshot.images.jpeg_gpu import gpu_decoder
    from fewshot.version import __version__

    device = resolve_device()
    found = present_backbones()
    info = EmbeddingCache().info()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "fewshot": __version__,
        "python": platform.python_version(),
        **{package: _version(package) for package in _PACKAGES},
        "device": f"{device} ({name})",
        "precision": resolve_precision("auto", device),
        "jpegs": "decoded by the GPU" if gpu_decoder(device, 224) else "decoded by the processor",
        "threads": f"{torch.get_num_threads()} of {os.cpu_count()} cores",
        "weights": ", ".join(found)
        + ("" if model_urls().keys() & set(found) else "  (OpenAI's: fewshot download --model_name ViT-B/32)"),
        "cache": f"{info.path}: {info.entries} embeddings, {info.bytes / 2**20:.1f} MiB",
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
