"""Accuracy of an encoder in training: nearest class mean over its embeddings of held-out classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from clip.model import CLIP
from torch import Tensor

from experiments.pretrain.augment import eval_batch
from experiments.pretrain.model import encode_image


@torch.no_grad()
def embed(model: CLIP, pixels: Tensor, size: int, dtype: torch.dtype, batch: int = 256) -> Tensor:
    """Unit-norm float32 embeddings (n, E) of uint8 pictures (n, 3, s, s), seen at ``size``."""
    parts = [encode_image(model, eval_batch(part, size), dtype) for part in torch.split(pixels, batch)]
    return F.normalize(torch.cat(parts), dim=-1)


def ncm_accuracy(
    features: Tensor,
    labels: Tensor,
    shots: int,
    seed: int = 0,
    episodes: int = 600,
    ways: int = 5,
    queries: int = 15,
) -> tuple[float, float]:
    """Mean accuracy and 95 % half-width of ``ways``-way prototypes over episodes that are a function of the seed.

    features (n, E) unit-norm, labels (n,); 5 queries a class where some class is too small for ``queries``.
    """
    features, labels = features.cpu(), labels.cpu()
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.nonzero(labels == label).flatten() for label in range(int(labels.max()) + 1)]
    rows = [row for row in rows if len(row)]
    if min(len(row) for row in rows) < shots + queries:
        queries = 5
    rows = [row for row in rows if len(row) >= shots + queries]
    if len(rows) < ways:
        raise ValueError(f"only {len(rows)} classes have {shots + queries} pictures; {ways} are needed")
    drawn = torch.stack([_draw(rows, ways, shots + queries, generator) for _ in range(episodes)])
    truth = torch.arange(ways).view(1, ways, 1)
    scores = []
    for part in torch.split(drawn, 100):  # many episodes at once, few enough for raw pixels to fit
        support, query = features[part[..., :shots]], features[part[..., shots:]]  # (T, ways, pictures, E)
        prototypes = F.normalize(support.mean(2), dim=-1)
        nearest = torch.einsum("twqe,tpe->twqp", query, prototypes).argmax(-1)
        scores.append((nearest == truth).float().mean((1, 2)))
    score = torch.cat(scores)
    return score.mean().item(), 1.96 * score.std().item() / episodes**0.5


def _draw(rows: list[Tensor], ways: int, pictures: int, generator: torch.Generator) -> Tensor:
    """One episode's pictures (ways, pictures) as rows of the features, the support first."""
    classes = torch.randperm(len(rows), generator=generator)[:ways].tolist()
    chosen = [rows[label][torch.randperm(len(rows[label]), generator=generator)[:pictures]] for label in classes]
    return torch.stack(chosen)
