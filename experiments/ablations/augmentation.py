"""How strongly should training pictures be augmented?"""

from __future__ import annotations

import dataclasses

from fewshot import Augmentation, TrainConfig

STRENGTHS = {
    "none": Augmentation(crop_scale=(1.0, 1.0), flip=0.0, colour=0.0),
    "crops": Augmentation(flip=0.0, colour=0.0),
    "crops, flips, colours": Augmentation(),
    "strong": Augmentation(crop_scale=(0.2, 1.0), colour=0.4, randaugment=2),
}


def configs(base: TrainConfig) -> dict[str, TrainConfig]:
    """Nothing, crops alone, the default, and much."""
    return {name: dataclasses.replace(base, augmentation=strength) for name, strength in STRENGTHS.items()}
