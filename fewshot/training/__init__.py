"""Episodic training: settings, the loop, validation, selection. Names are imported when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fewshot.config import TrainConfig as TrainConfig
    from fewshot.training.loop import TrainResult as TrainResult
    from fewshot.training.loop import train as train
    from fewshot.training.model import EpisodicModel as EpisodicModel

_HOME = {
    "TrainConfig": "fewshot.config",
    "TrainResult": "fewshot.training.loop",
    "train": "fewshot.training.loop",
    "EpisodicModel": "fewshot.training.model",
}

__all__ = ["EpisodicModel", "TrainConfig", "TrainResult", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fewshot.training' has no attribute {name!r}")
    # Not cached in globals: `train` and the sub-modules share a name space.
    return getattr(importlib.import_module(_HOME[name]), name)
