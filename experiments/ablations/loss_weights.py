"""Does the joint loss beat each of its halves?"""

from __future__ import annotations

import dataclasses

from fewshot import TrainConfig

COMPARE = (("1 : 1", "1 : 0"), ("1 : 1", "0 : 1"), ("1 : 0", "0 : 1"), ("1 : 0.25", "1 : 1"), ("0.25 : 1", "1 : 1"))


def configs(base: TrainConfig) -> dict[str, TrainConfig]:
    """Prototypical weight : class weight; each alone, both, and between. metrics.csv tells each one's share of the gradient."""
    return {
        f"{prototypical:g} : {classes:g}": dataclasses.replace(
            base, prototypical_weight=prototypical, class_weight=classes
        )
        for prototypical, classes in ((1.0, 0.0), (1.0, 0.25), (1.0, 1.0), (0.25, 1.0), (0.0, 1.0))
    }
