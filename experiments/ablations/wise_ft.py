"""Which mix of old and tuned weights is best (WiSE-FT, arXiv 2109.01903)?"""

from __future__ import annotations

import dataclasses

from experiments.engine.ablation import Measure
from fewshot import TrainConfig

MEASURES = {f"mix {alpha:g}": Measure(alpha=alpha) for alpha in (1.0, 0.75, 0.5, 0.25, 0.0)}


def configs(base: TrainConfig) -> dict[str, TrainConfig]:
    """One run that keeps its tuned weights, measured in every mix."""
    return {"tuned": dataclasses.replace(base, mix=1.0)}
