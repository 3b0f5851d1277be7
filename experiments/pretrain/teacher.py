"""Soft labels from an earlier generation of the same network, as in born-again networks (Furlanello et al.

2018, arXiv 1805.04770); Tian et al. 2020 (arXiv 2003.11539) found that what is distilled so carries further to unseen classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from clip.model import CLIP
from torch import Tensor

from experiments.pretrain.data import Pictures
from experiments.pretrain.measure import embed


def soft_labels(teacher: CLIP, pictures: Pictures, size: int, scale: float, dtype: torch.dtype) -> Tensor:
    """(n, classes) float32: softmax of ``scale`` times the cosine to the teacher's class means, each picture seen once and whole."""
    features = embed(teacher, pictures.pixels, size, dtype)
    classes = len(pictures.class_names)
    sums = torch.zeros(classes, features.shape[1], device=features.device)
    means = F.normalize(sums.index_add_(0, pictures.labels, features), dim=-1)
    return (scale * features @ means.T).softmax(-1)
