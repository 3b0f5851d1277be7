"""Image encoders by name: OpenAI's CLIP, a weights file in OpenAI's format, open_clip's and timm's models, and the embedded `tiny`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from episodes.errors import DataError, UsageError
from fewshot.encoders import open_clip_models, timm_models
from fewshot.encoders.base import VisionEncoder
from fewshot.encoders.download import model_urls, weights_file
from fewshot.encoders.openai_clip import build_clip, visual_from_state, wrap_visual
from fewshot.encoders.weights import read_weights

__all__ = ["VisionEncoder", "clip_state", "encoder_from_state", "load_clip", "load_encoder", "visual_from_state"]

TINY = "tiny"


def clip_state(name: str, download_root: str | Path | None = None) -> tuple[dict[str, Tensor], str]:
    """The state dict of a backbone in OpenAI's names, and where it came from.

    Args:
        name: "tiny", one of OpenAI's model names, or the path of a weights file, of one like tiny's too.
        download_root: where OpenAI's models were downloaded to.

    Raises:
        UsageError: it is neither a known name nor a file.
        DataError: the model is known but was not downloaded, or the file is broken.
    """
    from fewshot.encoders import tiny

    urls = model_urls()
    if name == TINY:
        path = tiny.weights_path()
    elif name in urls:
        path = weights_file(name, download_root)
        if not path.is_file():
            raise DataError(
                f"the weights of {name} are not on this machine: expected them at {path}. Fetch them with: fewshot download --model_name "
                f"{name}   (nothing is downloaded unasked; the built-in encoder needs no download: --backbone tiny)"
            )
    else:
        path = Path(name)
        if not path.is_file():
            raise UsageError(
                f"backbone {name!r} is neither a known name nor a weights file. Known: {TINY}, {', '.join(urls)}, open_clip:<model>/<tag>, "
                "timm:<name>; or the path of a file in OpenAI's format"
            )
    source = TINY if name == TINY else str(path)
    state = read_weights(path, tiny.WEIGHTS_SHA256 if name == TINY else None)
    if tiny.ROWS not in state:
        return state, source
    try:
        return tiny.expand_state_dict(state), source
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def load_clip(name: str, *, device: str | torch.device = "cpu", download_root: str | Path | None = None) -> Any:
    """The whole CLIP model (image and text side) in float32 and eval mode; for text prototypes. Raises as `clip_state`."""
    state, source = clip_state(name, download_root)
    return build_clip(state, source).to(device)


def load_encoder(
    name: str, *, device: str | torch.device = "cpu", download_root: str | Path | None = None
) -> VisionEncoder:
    """An image encoder in float32 and eval mode, with everything frozen (see `VisionEncoder.unfreeze_last`).

    Args:
        name: "tiny" (embedded, no download), one of OpenAI's names ("ViT-B/32", "RN50", ...), "open_clip:<model>/<tag>",
            "timm:<name>", or the path of a weights file in OpenAI's format (TorchScript archive, state dict, or safetensors).
        device: where it computes.
        download_root: where models were downloaded to; `~/.cache/clip` by default.

    Raises:
        UsageError: it is neither a known name nor a file; the library that it comes from is not installed.
        DataError: the weights are not on this machine (the message gives the download command), or are broken.
    """
    if name.startswith(timm_models.PREFIX):
        return timm_models.load(name, download_root).to(device)
    if name.startswith(open_clip_models.PREFIX):
        return open_clip_models.load(name, download_root).to(device)
    state, source = clip_state(name, download_root)
    visual = {key: value for key, value in state.items() if key.startswith("visual.")}
    if visual and not any(
        key.startswith("transformer.") for key in state
    ):  # the image side alone, as some people keep it
        return visual_from_state(visual, name).to(device)
    return wrap_visual(build_clip(state, source).visual, name).to(device)


def encoder_from_state(state: Mapping[str, Tensor], backbone: str) -> VisionEncoder:
    """An encoder from the tensors of its `state_dict()`; this is how a checkpoint is loaded, without download.

    Args:
        state: of an encoder that `load_encoder` gave.
        backbone: the name that it was loaded by.

    Raises:
        UsageError: the library that it comes from is not installed, or does not know the model.
        DataError: the tensors do not fit together.
    """
    if backbone.startswith(timm_models.PREFIX):
        return timm_models.from_state(state, backbone)
    if backbone.startswith(open_clip_models.PREFIX):
        return open_clip_models.from_state(state, backbone)
    return visual_from_state(state, backbone)
