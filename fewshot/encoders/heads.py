"""The residual classifier over the training classes: the joint objective's second half."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ResidualClassifier(nn.Module):
    """fc2(z + dropout(relu(fc1(z)))): two fully connected layers with a residual connection, D -> D -> C."""

    def __init__(self, embed_dim: int, n_classes: int, dropout: float = 0.1, residual: bool = True) -> None:
        """Make both layers, with torch's initial weights.

        Args:
            embed_dim: D.
            n_classes: C, at least 1.
            dropout: share of the hidden units dropped in training.
            residual: with the connection around the first layer.

        Raises:
            ValueError: a size below 1, or a dropout outside [0, 1).
        """
        super().__init__()
        if embed_dim < 1 or n_classes < 1 or not 0 <= dropout < 1:
            raise ValueError(
                f"ResidualClassifier needs sizes >= 1 and dropout in [0, 1), got {embed_dim}, {n_classes}, {dropout}"
            )
        self.dropout, self.residual = dropout, residual
        self.fc1 = nn.Linear(embed_dim, embed_dim)
        self.fc2 = nn.Linear(embed_dim, n_classes)

    def forward(self, embeddings: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, D) embeddings -> (B, C) logits.

        Args:
            embeddings: unit-norm embeddings, float32.
            generator: draws the dropout mask in training mode (on the CPU, whatever the device); None draws from torch's
                global generator.
        """
        logits: Tensor = self.fc2(self.features(embeddings, generator))
        return logits

    def features(self, embeddings: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """What the second layer sees: z + dropout(relu(fc1(z))), without ``z +`` where there is no residual connection.

        Args:
            embeddings: (B, D) of unit norm, float32.
            generator: as in `forward`.

        Returns:
            (B, D).
        """
        hidden = F.relu(self.fc1(embeddings))
        if self.training and self.dropout:
            kept = torch.rand(hidden.shape, generator=generator) >= self.dropout
            hidden = hidden * kept.to(hidden.device) / (1 - self.dropout)
        return embeddings + hidden if self.residual else hidden
