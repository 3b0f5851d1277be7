"""What a training step is made of: the pictures, or hidden states, and the labels of its episodes.

T episodes a step, S support and Q query pictures an episode, N ways.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class EpisodeTensors:
    """The pictures and labels of one step; labels of -1 are padding.

    Attributes:
        step: its number.
        support: (T, S, 3, H, W) uint8, or (T, S, ...) hidden states where the source gives those.
        support_labels: (T, S) int64 in [0, N).
        query: (T, Q, 3, H, W) uint8, likewise.
        query_labels: (T, Q) int64 in [0, N).
        support_classes: (T, S) int64, the same pictures' classes in the sampler's table.
        query_classes: (T, Q) int64, likewise.
        n_way: N, the largest number of classes among the T episodes.
        replaced: path -> why it could not be read; another picture of its class stands in its place.
    """

    step: int
    support: Tensor
    support_labels: Tensor
    query: Tensor
    query_labels: Tensor
    support_classes: Tensor
    query_classes: Tensor
    n_way: int
    replaced: dict[str, str] = field(default_factory=dict)

    def to(self, device: str | torch.device) -> EpisodeTensors:
        """A copy whose tensors lie on another device."""
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)

    @property
    def images(self) -> Tensor:
        """(T * (S + Q), 3, H, W) uint8 (or hidden states): support and query of each episode, for one pass through the encoder."""
        return torch.cat([self.support, self.query], dim=1).flatten(0, 1)

    @property
    def classes(self) -> Tensor:
        """(T * (S + Q),) int64: training classes of `images`, -1 for padding."""
        return torch.cat([self.support_classes, self.query_classes], dim=1).flatten()

    def split(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """(T * (S + Q), ...) in the order of `images` -> support (T, S, ...) and query (T, Q, ...)."""
        tasks, shots = self.support.shape[:2]
        parts = values.reshape(tasks, -1, *values.shape[1:])
        return parts[:, :shots], parts[:, shots:]
