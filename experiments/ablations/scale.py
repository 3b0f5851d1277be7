"""Should the factor on the cosine be learned, or stay at 10?"""

from __future__ import annotations

import dataclasses

from fewshot import TrainConfig


def configs(base: TrainConfig) -> dict[str, TrainConfig]:
    """Learned and fixed."""
    return {scale: dataclasses.replace(base, scale=scale) for scale in ("learned", "fixed")}
