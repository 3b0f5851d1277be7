"""Does the joint loss beat each of its halves?"""

from __future__ import annotations

import dataclasses

from fewshot import TrainConfig


def configs(base: TrainConfig) -> dict[str, TrainConfig]:
    """Prototypical loss alone, class loss alone, both, and both with the class loss halved."""
    weights = {"prototypical": (1.0, 0.0), "class": (0.0, 1.0), "joint": (1.0, 1.0), "joint-half-class": (1.0, 0.5)}
    return {
        name: dataclasses.replace(base, prototypical_weight=prototypical, class_weight=classes)
        for name, (prototypical, classes) in weights.items()
    }
