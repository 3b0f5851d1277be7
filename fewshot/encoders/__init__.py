"""Image encoders by name, whichever family they belong to; see `fewshot.encoders.family` for adding one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from fewshot.encoders.base import VisionEncoder
from fewshot.encoders.clip_files import clip_state, load_clip
from fewshot.encoders.lookup import family_of, present_backbones
from fewshot.encoders.openai_clip import visual_from_state

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


def load_encoder(
    name: str, *, device: str | torch.device = "cpu", download_root: str | Path | None = None
) -> VisionEncoder:
    """Load an image encoder in float32 and eval mode, with everything frozen (see `VisionEncoder.unfreeze_last`).

    Args:
        name: "tiny" (embedded, no download), one of OpenAI's names ("ViT-B/32", "RN50", ...), "open_clip:<model>/<tag>",
            "timm:<name>", the path of a weights file in OpenAI's format (TorchScript archive, state dict, or safetensors),
            what another package has registered, or several of these joined by "+", which work together.
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
