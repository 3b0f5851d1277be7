"""Does the residual classifier need its residual, and are new classes better named by the features before it or after it?"""

from __future__ import annotations

import dataclasses

from experiments.engine.ablation import Measure
from fewshot import TrainConfig

MEASURES = {"before": Measure(), "after": Measure(features="residual")}
COMPARE = (
    ("with, before", "without, before"),
    ("with, after", "with, before"),
    ("without, after", "without, before"),
)


def configs(base: TrainConfig) -> dict[str, TrainConfig]:
    """With the connection and without."""
    return {
        name: dataclasses.replace(base, residual=residual) for name, residual in (("with", True), ("without", False))
    }
