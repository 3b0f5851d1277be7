"""The joint objective: prototypical loss and the residual classifier's cross-entropy on the features of one encoder pass."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.encoders.base import VisionEncoder
from fewshot.heads import ResidualClassifier
from fewshot.images import normalise
from fewshot.losses import class_loss, prototypical_logits

INITIAL_SCALE = 10.0


class StepLosses(NamedTuple):
    """What a training step returns: scalars, float32; `accuracy` is that of the queries in their episodes."""

    total: Tensor
    prototypical: Tensor
    classes: Tensor
    accuracy: Tensor


class EpisodicModel(nn.Module):
    """Encoder, residual classifier over the C training classes, and the learned scale of the prototypical logits."""

    def __init__(
        self,
        encoder: VisionEncoder,
        n_classes: int,
        *,
        dropout: float = 0.1,
        prototypical_weight: float = 1.0,
        class_weight: float = 1.0,
        label_smoothing: float = 0.0,
        seed: int = 0,
    ) -> None:
        """Args: encoder: its `requires_grad` flags say what is tuned. n_classes: C. seed: of the classifier's first weights."""
        super().__init__()
        self.encoder = encoder
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.classifier = ResidualClassifier(encoder.embed_dim, n_classes, dropout)
        self.log_scale = nn.Parameter(torch.tensor(math.log(INITIAL_SCALE)))
        self.prototypical_weight, self.class_weight = prototypical_weight, class_weight
        self.label_smoothing = label_smoothing

    @property
    def scale(self) -> Tensor:
        """The positive factor on the cosine."""
        return self.log_scale.exp()

    def forward(
        self,
        images: Tensor,
        support_labels: Tensor,
        query_labels: Tensor,
        classes: Tensor,
        n_way: int,
        dropout_key: int,
        encoder_frozen: bool = False,
    ) -> StepLosses:
        """Losses of one step of T episodes with S support and Q query pictures each; labels of -1 are padding.

        Args:
            images: (T * (S + Q), 3, H, W) uint8, as `EpisodeTensors.images`.
            support_labels: (T, S) in [0, n_way).
            query_labels: (T, Q) in [0, n_way).
            classes: (T * (S + Q),) in [0, C), the training classes of `images`.
            n_way: N.
            dropout_key: seeds the classifier's dropout, so that a step is a function of its number.
            encoder_frozen: no gradient into the encoder, while the classifier warms up.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not encoder_frozen):
            features: Tensor = self.encoder(normalise(images, self.encoder))
        with torch.autocast(features.device.type, enabled=False):
            tasks, shots = support_labels.shape
            parts = features.view(tasks, -1, features.shape[1])
            logits = prototypical_logits(parts[:, :shots], support_labels, parts[:, shots:], n_way, self.scale)
            prototypical = F.cross_entropy(logits.flatten(0, 1), query_labels.flatten(), ignore_index=-1)
            generator = torch.Generator().manual_seed(dropout_key)
            class_part = class_loss(self.classifier(features, generator), classes, self.label_smoothing)
            known = query_labels >= 0
            accuracy = (logits.detach().argmax(-1) == query_labels)[known].float().mean()
            total = self.prototypical_weight * prototypical + self.class_weight * class_part
        return StepLosses(total, prototypical.detach(), class_part.detach(), accuracy)
