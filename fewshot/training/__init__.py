"""Episodic training: settings, the loop, validation, selection, checkpoints. Names are imported when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fewshot.training.checkpoint import Checkpoint as Checkpoint
    from fewshot.training.checkpoint import load_checkpoint as load_checkpoint
    from fewshot.training.config import TrainConfig as TrainConfig
    from fewshot.training.loop import TrainResult as TrainResult
    from fewshot.training.loop import train as train
    from fewshot.training.model import EpisodicModel as EpisodicModel

_HOME = {
    "Checkpoint": "checkpoint",
    "load_checkpoint": "checkpoint",
    "TrainConfig": "config",
    "TrainResult": "loop",
    "train": "loop",
    "EpisodicModel": "model",
}

__all__ = ["Checkpoint", "EpisodicModel", "TrainConfig", "TrainResult", "load_checkpoint", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fewshot.training' has no attribute {name!r}")
    # Not cached in globals: `train` and the sub-modules share a name space.
    return getattr(importlib.import_module(f"fewshot.training.{_HOME[name]}"), name)
