"""Does a pull towards the pretrained weights (L2-SP, arXiv 1802.01483) help?"""

from __future__ import annotations

import dataclasses

from fewshot import TrainConfig


def configs(base: TrainConfig) -> dict[str, TrainConfig]:
    """None, and three strengths."""
    return {f"pull {weight:g}": dataclasses.replace(base, anchor=weight) for weight in (0.0, 0.01, 0.1, 1.0)}
