"""Which ways and shots should training episodes have, at one size of batch?"""

from __future__ import annotations

import dataclasses

from fewshot import TrainConfig


def configs(base: TrainConfig) -> dict[str, TrainConfig]:
    """Four, eight and sixteen ways at one shot, five shots, and ranges, in a batch of 64 pictures."""
    batch = dataclasses.replace(base, batch_size=64, queries=3)
    kinds = ((4, 1), (8, 1), (16, 1), (8, 5), ("4-16", 1), (8, "1-5"))
    return {f"{ways}-way {shots}-shot": dataclasses.replace(batch, ways=ways, shots=shots) for ways, shots in kinds}
