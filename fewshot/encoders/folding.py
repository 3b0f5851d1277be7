"""Batch norms folded into the convolutions before them, for encoders whose statistics never change; `TimmEncoder` uses it.

A batch norm in eval mode multiplies and shifts every channel by fixed numbers. A convolution does that for nothing: its weights
times the factor, and the shift as its bias (Jacob et al. 2018, arXiv 1712.05877, section 3.2). One pass over memory is saved a layer.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn


def fold_batch_norms(network: nn.Module) -> int:
    """Fold, in place, every batch norm that stands directly behind a convolution among the children of one module.

    The network must run such neighbours one after the other, as timm's EfficientNets do. What a batch norm of timm does behind its
    norm (an activation) stays in its place. Only for inference: the parameters are no longer those that were trained.

    Args:
        network: in eval mode, in float32.

    Returns:
        How many were folded.
    """
    folded = 0
    for module in list(network.modules()):
        for (_, convolution), (name, norm) in pairwise(list(module.named_children())):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                _fold(convolution, norm)
                setattr(module, name, getattr(norm, "act", nn.Identity()))
                folded += 1
    return folded


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Let a convolution give what the norm behind it gave."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None and variance is not None, "a batch norm without running statistics is not fixed"
    factor = torch.rsqrt(variance + norm.eps)
    shift = -mean * factor
    if norm.affine:
        factor, shift = factor * norm.weight.detach(), shift * norm.weight.detach() + norm.bias.detach()
    if convolution.bias is not None:
        shift = shift + convolution.bias.detach() * factor
    convolution.weight = nn.Parameter(
        convolution.weight.detach() * factor.view(-1, *[1] * (convolution.weight.ndim - 1)), requires_grad=False
    )
    convolution.bias = nn.Parameter(shift, requires_grad=False)
