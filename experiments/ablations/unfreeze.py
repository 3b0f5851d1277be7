"""How many of the last blocks should be trained?"""

from __future__ import annotations

import dataclasses

from fewshot import TrainConfig


def configs(base: TrainConfig) -> dict[str, TrainConfig]:
    """The classifier alone, one, two and four blocks, and everything."""
    return {f"unfreeze-{n}": dataclasses.replace(base, unfreeze_blocks=n) for n in (0, 1, 2, 4, "all")}
