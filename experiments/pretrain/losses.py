"""What is minimised: cosine classification of pictures, and their contrast with the text of their class names."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Heads(nn.Module):
    """Cosine classifiers of the training classes; thrown away afterwards. A character turned is another class."""

    def __init__(self, photos: int, characters: int, embed_dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.photos = nn.Parameter(torch.randn(photos, embed_dim, generator=generator) * 0.02)
        self.characters = nn.Parameter(torch.randn(4 * characters, embed_dim, generator=generator) * 0.02)
        self.log_scale = nn.Parameter(torch.tensor(math.log(16.0)))


@dataclass(frozen=True)
class Targets:
    """Labels of one shard.

    Of mixed photographs (B,) twice and the first one's share, of characters and turns (C,); with a teacher its mixed probabilities
    (B, classes) of the photographs, and how much they count.
    """

    first: Tensor
    second: Tensor
    share: Tensor
    character: Tensor
    turns: Tensor
    soft: Tensor | None = None
    soft_weight: float = 0.0


def picture_losses(embedding: Tensor, heads: Heads, targets: Targets, smoothing: float) -> dict[str, Tensor]:
    """Classification of unit embeddings (B + C, E), photographs first, by the heads.

    Each loss is weighted by its pictures' part of the batch. Both domains have a softmax of their own:
    telling photographs from characters is too easy to be worth a gradient.
    """
    photo, character = embedding[: len(targets.first)], embedding[len(targets.first) :]
    part = len(photo) / len(embedding)
    scale = heads.log_scale.clamp(max=math.log(50.0)).exp()
    turned = targets.character * 4 + targets.turns
    of_photos = taught(scale * photo @ F.normalize(heads.photos, dim=-1).T, targets, smoothing)
    of_characters = smoothed(scale * character @ F.normalize(heads.characters, dim=-1).T, turned, smoothing)
    return {"photos": part * of_photos, "characters": (1 - part) * of_characters.mean()}


def view_contrast(embedding: Tensor, temperature: float) -> Tensor:
    """How hard it is to find a picture's other view among all views: unit embeddings (2n, E), row i and row n + i one picture.

    The normalised temperature-scaled cross-entropy of Chen et al. 2020 (arXiv 2002.05709). Other pictures of the class count as
    others: it keeps apart what classification of few classes would let fall together, and what other classes may need.
    """
    similarity = (embedding @ embedding.T / temperature).float()
    similarity = similarity.masked_fill(torch.eye(len(embedding), dtype=torch.bool, device=embedding.device), -math.inf)
    other = torch.arange(len(embedding), device=embedding.device).roll(len(embedding) // 2)
    return F.cross_entropy(similarity, other)


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


def taught(logits: Tensor, targets: Targets, smoothing: float) -> Tensor:
    """`mixed`, and by its weight the cross-entropy with the teacher's probabilities."""
    of_labels = mixed(logits, targets, smoothing)
    if targets.soft is None:
        return of_labels
    of_teacher = -(targets.soft * logits.float().log_softmax(-1)).sum(-1).mean()
    return (1 - targets.soft_weight) * of_labels + targets.soft_weight * of_teacher


def mixed(logits: Tensor, targets: Targets, smoothing: float) -> Tensor:
    """Mean cross-entropy of mixed pictures: each of the two labels by its share."""
    first, second = (smoothed(logits, labels, smoothing) for labels in (targets.first, targets.second))
    return (targets.share * first + (1 - targets.share) * second).mean()
