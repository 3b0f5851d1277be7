"""From a training CLIP to the file that ships: float16, and of the token embedding only the rows that were trained."""

from __future__ import annotations

from pathlib import Path

import torch
from clip.model import CLIP, build_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from fewshot.encoders.tiny import DEFAULT, ROWS, VALUES, expand_state_dict


def compact(model: CLIP, token_rows: Tensor) -> dict[str, Tensor]:
    """Tensors of the shipped file. ``token_rows`` (R,) are CLIP's ids of the model's R token embeddings.

    Tokens that no prompt used share the mean of those that one did: near all of them, far from none.
    """
    state = {name: tensor.detach().cpu().half().contiguous() for name, tensor in model.state_dict().items()}
    values = state.pop("token_embedding.weight")
    if len(values) != len(token_rows):
        raise ValueError(f"{len(token_rows)} token ids for {len(values)} token embeddings")
    default = values.float().mean(0).half()
    return {**state, ROWS: token_rows.cpu().to(torch.int32), VALUES: values, DEFAULT: default}


def write(model: CLIP, token_rows: Tensor, path: Path) -> None:
    """Write the shipped file beside its place and move it in."""
    unfinished = path.with_suffix(".partial")
    save_file(compact(model, token_rows), unfinished, metadata={"format": "pt"})
    unfinished.replace(path)


def read(path: Path) -> CLIP:
    """A shipped file as ``clip``'s own model in float32, with the whole token embedding."""
    state = expand_state_dict(load_file(path))
    return build_model(state).float()
