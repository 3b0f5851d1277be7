"""Image encoders by name, whichever family they belong to; see `fewshot.encoders.family` for adding one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from episodes.errors import UsageError
from fewshot.encoders.base import VisionEncoder
from fewshot.encoders.clip_files import clip_state, known_backbones, load_clip
from fewshot.encoders.family import EncoderFamily
from fewshot.encoders.openai_clip import visual_from_state
from fewshot.registry import ENCODERS

__all__ = [
    "VisionEncoder",
    "clip_state",
    "encoder_from_state",
    "family_of",
    "load_clip",
    "load_encoder",
    "present_backbones",
    "visual_from_state",
]


def family_of(backbone: str) -> EncoderFamily:
    """The family that answers to a backbone's name.

    Raises:
        UsageError: none does, or another package brings it and cannot be imported.
    """
    entry = ENCODERS.find(backbone)
    if entry is None:
        raise UsageError(f"backbone {backbone!r} is not known. Known: {known_backbones()}")
    family: EncoderFamily = entry.load()()
    return family


def present_backbones() -> list[str]:
    """Name the backbones whose weights are on this machine, as far as their families can tell; for `fewshot doctor`."""
    families = [family() for family in dict.fromkeys(entry.load() for entry in ENCODERS.entries.values())]
    return [name for family in families for name in family.present()]


def load_encoder(
    name: str, *, device: str | torch.device = "cpu", download_root: str | Path | None = None
) -> VisionEncoder:
    """Load an image encoder in float32 and eval mode, with everything frozen (see `VisionEncoder.unfreeze_last`).

    Args:
        name: "tiny" (embedded, no download), one of OpenAI's names ("ViT-B/32", "RN50", ...), "open_clip:<model>/<tag>",
            "timm:<name>", the path of a weights file in OpenAI's format (TorchScript archive, state dict, or safetensors), or
            what another package has registered.
        device: where it computes.
        download_root: where models were downloaded to; `~/.cache/clip` by default.

    Raises:
        UsageError: it is neither a known name nor a file; the library that it comes from is not installed.
        DataError: the weights are not on this machine (the message gives the download command), or are broken.
    """
    return family_of(name).load(name, download_root).to(device)


def encoder_from_state(state: Mapping[str, Tensor], backbone: str) -> VisionEncoder:
    """Rebuild an encoder from the tensors of its `state_dict()`; this is how a checkpoint is loaded, without download.

    Args:
        state: of an encoder that `load_encoder` gave.
        backbone: the name that it was loaded by.

    Raises:
        UsageError: the library that it comes from is not installed, or does not know the model.
        DataError: the tensors do not fit together.
    """
    return family_of(backbone).from_state(state, backbone)
