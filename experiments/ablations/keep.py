"""Does letting validation choose the mix, or the untouched encoder, cost anything against keeping what was tuned?"""

from __future__ import annotations

import dataclasses

from fewshot import TrainConfig


def configs(base: TrainConfig) -> dict[str, TrainConfig]:
    """By validation, and always the tuned weights or half of them."""
    mixes = {"by validation": None, "tuned": 1.0, "half": 0.5}
    return {name: dataclasses.replace(base, mix=mix) for name, mix in mixes.items()}
