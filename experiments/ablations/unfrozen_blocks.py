"""How many of the last blocks should be trained?"""

from __future__ import annotations

import dataclasses

from fewshot import TrainConfig


def configs(base: TrainConfig) -> dict[str, TrainConfig]:
    """The classifier alone, which leaves the encoder as it is; one to six blocks; and everything."""
    return {
        f"{n} block{'' if n == 1 else 's'}": dataclasses.replace(base, unfreeze_blocks=n)
        for n in (0, 1, 2, 4, 6, "all")
    }
