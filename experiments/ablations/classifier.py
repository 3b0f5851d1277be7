"""Which few-shot classifier should name the queries of a tuned encoder?"""

from __future__ import annotations

from experiments.engine.ablation import Measure
from fewshot import TrainConfig

NAMES = ("prototype", "nearest", "ridge", "logistic", "auto", "soft-kmeans", "laplacianshot")
MEASURES = {name: Measure(name) for name in NAMES}


def configs(base: TrainConfig) -> dict[str, TrainConfig]:
    """One run, measured with each."""
    return {"tuned": base}
