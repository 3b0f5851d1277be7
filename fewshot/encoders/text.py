"""Text embeddings of class names, by the text side of the CLIP model that an image encoder came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from episodes.errors import DataError
from episodes.files import class_name_of
from fewshot.encoders import load_clip, open_clip_models, timm_models
from fewshot.encoders._clip_import import import_clip
from fewshot.encoders.prompts import CLIP_TEMPLATES, text_prototypes


def class_texts(
    class_names: Sequence[str],
    backbone: str,
    *,
    templates: Sequence[str] = CLIP_TEMPLATES,
    device: str | torch.device = "cpu",
    download_root: str | Path | None = None,
) -> dict[str, Tensor]:
    """Class name -> (D,) unit-norm float32 mean of its prompts' embeddings.

    Args:
        class_names: as the folders are called; they become words (`golden_retriever` is "golden retriever").
        backbone: "tiny", one of OpenAI's names, "open_clip:<model>/<tag>", or a weights file.
        templates: sentences with {} where the name goes.
        device: where the text encoder computes.
        download_root: where models were downloaded to.

    Raises:
        UsageError: a template without {}, or an unknown backbone.
        DataError: the weights are missing, or have no text side.
    """
    encode = _sentence_encoder(backbone, device, download_root)
    vectors = text_prototypes([class_name_of(name) for name in class_names], encode, templates)
    return {name: vector.clone() for name, vector in zip(class_names, vectors, strict=True)}


def _sentence_encoder(
    backbone: str, device: str | torch.device, download_root: str | Path | None
) -> Callable[[list[str]], Tensor]:
    """n sentences -> (n, D) float32 on the CPU; what is too long for the model is cut."""
    if backbone.startswith(timm_models.PREFIX):
        raise DataError(
            f"{backbone}: timm's models have no text side, they know pictures only. Leave zero-shot and text-blend out, or choose a CLIP "
            "model: one of OpenAI's names, open_clip:<model>/<tag>, or tiny"
        )
    model: Any
    tokenize: Callable[[list[str]], Tensor]
    if backbone.startswith(open_clip_models.PREFIX):
        model, tokenize = open_clip_models.load_text(backbone, download_root)
        model = model.to(device)
    else:
        model = load_clip(backbone, device=device, download_root=download_root)
        tokenize = partial(import_clip().tokenize, truncate=True)

    def encode(sentences: list[str]) -> Tensor:
        with torch.inference_mode():
            encoded: Tensor = model.encode_text(tokenize(sentences).to(device))
        return encoded.float().cpu()

    return encode
