"""How many fixed views of a picture, whose hidden states are computed once, stand for augmentation that is new each time?"""

from __future__ import annotations

import dataclasses

from fewshot import TrainConfig


def configs(base: TrainConfig) -> dict[str, TrainConfig]:
    """New each time, and one to eight fixed views."""
    runs = {"new each time": dataclasses.replace(base, views=None)}
    return runs | {f"{n} view{'s' if n > 1 else ''}": dataclasses.replace(base, views=n) for n in (1, 2, 4, 8)}
