"""One episode of many ways a step, or several of few?"""

from __future__ import annotations

import dataclasses

from fewshot import TrainConfig


def configs(base: TrainConfig) -> dict[str, TrainConfig]:
    """Four, eight and sixteen ways in a batch of 64 pictures, and a range."""
    batch = dataclasses.replace(base, batch_size=64, shots=1, queries=3)
    return {f"ways-{ways}": dataclasses.replace(batch, ways=ways) for ways in (4, 8, 16, "4-16")}
