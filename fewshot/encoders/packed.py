"""Linear layers whose frozen bfloat16 weights lie in oneDNN's own layout, as torch.compile keeps them, without compiling.

On a CPU torch reorders a matrix in every product, and adds a bias in a pass of its own; together a quarter of an encoder's time.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PackedLinear(nn.Module):
    """What `F.linear` gives with these weights, for bfloat16 inputs on a CPU; no gradient."""

    def __init__(self, weight: Tensor, bias: Tensor, rows: int) -> None:
        """Reorder the weights once.

        Args:
            weight: (out, in) bfloat16.
            bias: (out,) bfloat16.
            rows: about how many an input has; others work too.
        """
        super().__init__()
        self._weight: Any = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), rows)
        self._bias = bias.detach()

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., in) -> (..., out), both bfloat16."""
        result: Tensor = torch.ops.mkldnn._linear_pointwise(hidden, self._weight, self._bias, "none", [], "")
        return result


@cache
def can_pack() -> bool:
    """Whether this torch has these operators, which it does not promise, and they give what `F.linear` gives."""
    generator = torch.Generator().manual_seed(0)
    hidden, weight, bias = (torch.randn(*s, generator=generator).bfloat16() for s in ((32, 64), (32, 64), (32,)))
    try:
        found = PackedLinear(weight, bias, 32)(hidden)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    return torch.allclose(found.float(), F.linear(hidden, weight, bias).float(), rtol=2e-2, atol=2e-2)
