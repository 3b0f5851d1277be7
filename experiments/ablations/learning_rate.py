"""Which learning rate for the encoder? 0 is among the answers: does tuning help at all?"""

from __future__ import annotations

import dataclasses

from fewshot import TrainConfig


def configs(base: TrainConfig) -> dict[str, TrainConfig]:
    """Zero, and decades around the default."""
    return {f"visual-lr-{rate:g}": dataclasses.replace(base, visual_lr=rate) for rate in (0.0, 1e-6, 1e-5, 1e-4, 1e-3)}
