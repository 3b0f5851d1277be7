"""What is minimised: cosine classification of pictures, and their contrast with the text of their class
names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Heads(nn.Module):
    """Cosine classifiers of the training classes; thrown away afterwards. A character turned is another
    class.
    """

    def __init__(self, photos: int, characters: int, embed_dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.photos = nn.Parameter(torch.randn(photos, embed_dim, generator=generator) * 0.02)
        self.characters = nn.Parameter(torch.randn(4 * characters, embed_dim, generator=generator) * 0.02)
        self.log_scale = nn.Parameter(torch.tensor(math.log(16.0)))


@dataclass(frozen=True)
class Targets:
    """Labels of one shard: of mixed photographs (B,) twice and the first one's share, of characters and turns
    (C,).
    """

    first: Tensor
    second: Tensor
    share: Tensor
    character: Tensor
    turns: Tensor


def picture_losses(embedding: Tensor, heads: Heads, targets: Targets, smoothing: float) -> dict[str, Tensor]:
    """Classification of unit embeddings (B + C, E), photographs first, by the heads.

    Each loss is weighted by its pictures' part of the batch. Both domains have a softmax of their own:
    telling photographs from characters is too easy to be worth a gradient.
    """
    photo, character = embedding[: len(targets.first)], embedding[len(targets.first) :]
    part = len(photo) / len(embedding)
    scale = heads.log_scale.clamp(max=math.log(50.0)).exp()
    turned = targets.character * 4 + targets.turns
    of_photos = mixed(scale * photo @ F.normalize(heads.photos, dim=-1).T, targets, smoothing)
    of_characters = smoothed(scale * character @ F.normalize(heads.characters, dim=-1).T, turned, smoothing)
    return {"photos": part * of_photos, "characters": (1 - part) * of_characters.mean()}


def text_loss(
    embedding: Tensor, texts: tuple[Tensor, Tensor], scale: Tensor, targets: Targets, smoothing: float
) -> Tensor:
    """Contrast of unit embeddings (B + C, E) with the unit text embeddings of all classes.

    Names speak of upright characters only.
    """
    photo, character = embedding[: len(targets.first)], embedding[len(targets.first) :]
    part = len(photo) / len(embedding)
    of_photos = mixed(scale * photo @ texts[0].T, targets, smoothing)
    upright = (targets.turns == 0).float()
    of_characters = smoothed(scale * character @ texts[1].T, targets.character, smoothing) * upright
    return part * of_photos + (1 - part) * of_characters.mean()


def smoothed(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy a picture (B,), with label smoothing."""
    return F.cross_entropy(logits.float(), labels, label_smoothing=smoothing, reduction="none")


def mixed(logits: Tensor, targets: Targets, smoothing: float) -> Tensor:
    """Mean cross-entropy of mixed pictures: each of the two labels by its share."""
    first, second = (smoothed(logits, labels, smoothing) for labels in (targets.first, targets.second))
    return (targets.share * first + (1 - targets.share) * second).mean()
