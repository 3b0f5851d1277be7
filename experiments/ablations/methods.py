"""Prototypes, or gradient steps on each task: ANIL, MAML, Meta-SGD, ProtoMAML?"""

from __future__ import annotations

import dataclasses
import typing

from experiments.engine.ablation import OWN, Measure
from fewshot import TrainConfig
from fewshot.config import Method

MEASURES = {"": Measure(OWN)}  # each as it names queries in use


def configs(base: TrainConfig) -> dict[str, TrainConfig]:
    """Each method on the same episodes."""
    return {method: dataclasses.replace(base, method=method) for method in typing.get_args(Method)}
