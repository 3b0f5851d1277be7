"""Networks without initial weights: drawing them takes longer than reading the ones that replace them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_INITIAL = (
    nn.init.normal_,
    nn.init.uniform_,
    nn.init.xavier_normal_,
    nn.init.xavier_uniform_,
    nn.init.kaiming_normal_,
    nn.init.kaiming_uniform_,
)
_FILLS = frozenset({Tensor.normal_, Tensor.uniform_, *_INITIAL})


class Undrawn(TorchFunctionMode):
    """While it lasts, nothing is drawn: constructors leave what memory holds where they would draw weights.

    It is for networks whose every tensor is loaded next, strictly, so that none of it is left. The global generator is not
    touched. Half of the time that `tiny` takes to load went into weights that nobody saw.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Leave a tensor as it is where it would be filled at random."""
        if func in _FILLS:
            return args[0] if args else (kwargs or {})["tensor"]
        if func is torch.randn:
            return torch.empty(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))
