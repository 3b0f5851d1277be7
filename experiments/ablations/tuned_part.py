"""What of the last blocks should be tuned: all of it, the norms, the last matrix, or low-rank additions?"""

from __future__ import annotations

import dataclasses

from fewshot.config import TrainConfig, Tune

RATE: dict[Tune, int] = {
    "blocks": 1,
    "norms": 10,
    "projection": 10,
    "lora": 10,
}  # the few parameters of a small part take larger steps


def configs(base: TrainConfig) -> dict[str, TrainConfig]:
    """Each part, with the blocks' learning rate or ten times as much."""
    return {part: dataclasses.replace(base, tune=part, visual_lr=rate * base.visual_lr) for part, rate in RATE.items()}
