"""Does every pair of a batch (NCA, arXiv 2012.09831) teach more than the split into support and query?"""

from __future__ import annotations

import dataclasses

from fewshot import TrainConfig


def configs(base: TrainConfig) -> dict[str, TrainConfig]:
    """Both episode losses, with the class loss beside them and alone."""
    return {
        f"{loss}{'' if weight else ' alone'}": dataclasses.replace(base, episode_loss=loss, class_weight=weight)
        for weight in (base.class_weight, 0.0)
        for loss in ("prototypical", "nca")
    }
