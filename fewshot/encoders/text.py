"""Text embeddings of class names, by the text side of the CLIP model that an image encoder came from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from episodes.files import class_name_of, display_name
from fewshot.encoders import family_of
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
    encode = family_of(backbone).text_encoder(backbone, device, download_root)
    vectors = text_prototypes([display_name(class_name_of(name)) for name in class_names], encode, templates)
    return {name: vector.clone() for name, vector in zip(class_names, vectors, strict=True)}
