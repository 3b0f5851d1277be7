"""The CLIP that ships with the package: where its file is, and how it becomes a state dict in OpenAI's format.

Of CLIP's 49,408 token embeddings the training used a few hundred. The file holds those rows and one shared
row for all others, everything in float16; ``README.md`` beside it is the model card.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

VOCABULARY = 49408
USUAL_DISTANCE = 0.85  # see `fewshot.classifiers.together`; of its photographs 0.82, of handwriting 0.90
STATISTICS = "statistics.safetensors"  # beside the weights: of its own training photographs
ROWS, VALUES, DEFAULT = "token_embedding.rows", "token_embedding.values", "token_embedding.default"

#: What the shipped files are. Whoever trains the encoder anew writes their digests here.
WEIGHTS_SHA256 = "fb9c2c1084ddbc977e5c0ab695367fe3828e2f57eab0bb2d3c6027f80b83a471"
STATISTICS_SHA256 = "6bfa0c9474bd7b9ead8c47232942cdbfc80ad8ead71ade6aec4d8b904409b77f"

__all__ = [
    "DEFAULT",
    "ROWS",
    "VALUES",
    "STATISTICS",
    "STATISTICS_SHA256",
    "USUAL_DISTANCE",
    "VOCABULARY",
    "WEIGHTS_SHA256",
    "expand_state_dict",
    "training_classes",
    "weights_path",
]


def weights_path() -> Path:
    """The path of the shipped ``tiny.safetensors``."""
    return Path(__file__).with_name("tiny.safetensors")


def training_classes() -> list[str]:
    """The classes of the photographs and drawings that it was trained on, by their folders' names."""
    lines = Path(__file__).with_name("classes.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


def expand_state_dict(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The shipped tensors as the plain state dict that ``clip.model.build_model`` takes; the input is not changed.

    Matrices of products (convolution, linear and attention layers, projections) stay float16 as OpenAI ships
    them; norms, embeddings and the logit scale become float32. Every value is exact in float16.

    Raises:
        ValueError: the compact token embedding is missing or does not fit together.
    """
    missing = [name for name in (ROWS, VALUES, DEFAULT) if name not in tensors]
    if missing:
        raise ValueError(f"not the weights of the tiny encoder: {', '.join(missing)} missing; use tiny.safetensors")
    rows, values, default = (tensors[name] for name in (ROWS, VALUES, DEFAULT))
    if rows.ndim != 1 or values.shape != (len(rows), *default.shape):
        shapes = f"rows {tuple(rows.shape)}, values {tuple(values.shape)}, default {tuple(default.shape)}"
        raise ValueError(f"expected rows (R,), values (R, W) and default (W,), found {shapes}; the file is damaged")
    table = default.float().repeat(VOCABULARY, 1)
    table[rows.long()] = values.float()
    state = {name: _as_openai(name, tensor) for name, tensor in tensors.items() if name not in (ROWS, VALUES, DEFAULT)}
    return {**state, "token_embedding.weight": table}


def _as_openai(name: str, tensor: Tensor) -> Tensor:
    """float16 for what ``clip.model.convert_weights`` halves, float32 for the rest."""
    parts = name.split(".")
    halved = parts[-1] in {"proj", "text_projection"} or "conv1" in parts or "attn" in parts or "mlp" in parts
    return tensor.half() if halved else tensor.float()
