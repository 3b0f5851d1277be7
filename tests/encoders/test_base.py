"""What all encoders share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fewshot.encoders.base import cast_matrices


class Standardised(nn.Conv2d):
    """A convolution that makes its weights anew in every call, as some residual networks have them."""

    def forward(self, input: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return nn.functional.conv2d(input, weight, self.bias)


def test_only_matrices_that_are_multiplied_as_they_are_get_rounded() -> None:
    parts = nn.ModuleDict(
        {
            "linear": nn.Linear(4, 4),
            "convolution": nn.Conv2d(3, 4, 2),
            "attention": nn.MultiheadAttention(8, 2),
            "norm": nn.LayerNorm(4),
            "standardised": Standardised(3, 4, 2),
        }
    )
    cast_matrices(parts, torch.bfloat16)
    for name, value in parts.named_parameters():
        exact = name.startswith(("norm", "standardised"))
        assert value.dtype == (torch.float32 if exact else torch.bfloat16), name
