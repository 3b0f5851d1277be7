"""Adaptation: per task, tune a part of the encoder on the support pictures, and forget it again.

As P>M>F does (Hu et al. 2022, arXiv 2204.07305). The names can be read without importing torch, so that a command line can
list them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fewshot.adaptation.base import Classify, SupportViews, TaskAdapter, Tuned
    from fewshot.adaptation.fine_tune import FineTune
    from fewshot.adaptation.scorer import AdaptedScorer
    from fewshot.adaptation.tail import Tail

ADAPTER_NAMES: tuple[str, ...] = ("blocks", "norms", "projection")
"""What is tuned: the last blocks with all that follows, the norms of the last blocks, or the projection alone."""

_LAZY = {
    "AdaptedScorer": "fewshot.adaptation.scorer",
    "Classify": "fewshot.adaptation.base",
    "FineTune": "fewshot.adaptation.fine_tune",
    "SupportViews": "fewshot.adaptation.base",
    "Tail": "fewshot.adaptation.tail",
    "TaskAdapter": "fewshot.adaptation.base",
    "Tuned": "fewshot.adaptation.base",
}

__all__ = [
    "ADAPTER_NAMES",
    "AdaptedScorer",
    "Classify",
    "FineTune",
    "SupportViews",
    "Tail",
    "TaskAdapter",
    "Tuned",
    "build_adapter",
]


def build_adapter(name: str) -> TaskAdapter:
    """Make the adapter called `name` on the command line, with its default settings.

    Raises:
        UsageError: there is none of that name.
    """
    from episodes.errors import UsageError

    if name not in ADAPTER_NAMES:
        raise UsageError(f"unknown adaptation {name!r}; expected one of {', '.join(ADAPTER_NAMES)}")
    from fewshot.adaptation.fine_tune import DEFAULTS

    return DEFAULTS[name]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
