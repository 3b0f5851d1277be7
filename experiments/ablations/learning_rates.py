"""Which learning rates for the encoder and for the classifier? 0 is among the answers: does tuning help at all?"""

from __future__ import annotations

import dataclasses

from fewshot import TrainConfig


def configs(base: TrainConfig) -> dict[str, TrainConfig]:
    """The encoder's in decades around the default, then the classifier's."""
    visual = {f"encoder {rate:g}": dataclasses.replace(base, visual_lr=rate) for rate in (0.0, 1e-6, 1e-5, 1e-4, 1e-3)}
    rates = [rate for rate in (5e-5, 5e-3) if rate != base.classifier_lr]
    return visual | {f"classifier {rate:g}": dataclasses.replace(base, classifier_lr=rate) for rate in rates}
