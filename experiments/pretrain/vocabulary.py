"""Class names as prompts, and the few of CLIP's 49,408 tokens that they use."""

from __future__ import annotations

import re

import clip
import torch
from torch import Tensor

PHOTO_PROMPTS = (
    "a photo of a {}.",
    "a blurry photo of a {}.",
    "a drawing of a {}.",
    "{}",
    "a close-up photo of the {}.",
)
CHARACTER_PROMPTS = ("a handwritten character of {}.", "a drawing of the character {}.")


def words(name: str) -> str:
    """A folder name as words: ``Korean_character14`` -> ``Korean character 14``."""
    return re.sub(r"(?<=[a-z])(?=\d)", " ", name.replace("_", " ")).strip()


def tokenise(names: tuple[str, ...], prompts: tuple[str, ...]) -> Tensor:
    """CLIP tokens (prompts, names, 77) of every name in every prompt."""
    return torch.stack([clip.tokenize([prompt.format(words(name)) for name in names]).long() for prompt in prompts])


def used_tokens(*tokens: Tensor) -> Tensor:
    """The distinct token ids, ascending: end-of-text stays the highest, which is how CLIP finds it."""
    distinct: Tensor = torch.unique(torch.cat([part.flatten() for part in tokens]))
    return distinct


def to_rows(tokens: Tensor, rows: Tensor) -> Tensor:
    """CLIP token ids -> row numbers of the compact embedding."""
    return torch.searchsorted(rows, tokens)
