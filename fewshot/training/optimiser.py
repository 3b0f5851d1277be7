"""AdamW with two learning rates, and the cosine schedule with warm-up (Loshchilov & Hutter, 1608.03983 and 1711.05101)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from fewshot.config import TrainConfig
from fewshot.training.model import EpisodicModel

# Of class and position, in CLIP's names and in timm's.
_EMBEDDINGS = ("positional_embedding", "class_embedding", "pos_embed", "cls_token", "reg_token")


def parameter_groups(model: EpisodicModel, config: TrainConfig) -> list[dict[str, Any]]:
    """Parameters by learning rate and decay; frozen ones are left out.

    Matrices decay; norms, biases, class and position embeddings, the scale and what a method learns do not. Each group is named,
    and keeps its peak learning rate as `peak_lr`.
    """
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        part = "visual" if name.startswith("encoder.") else "classifier"
        decays = parameter.ndim >= 2 and not name.endswith(_EMBEDDINGS) and not name.startswith("method.")
        peak = config.visual_lr if part == "visual" else config.classifier_lr
        key = f"{part}{'' if decays else ' without decay'}"
        group = groups.setdefault(
            key,
            {
                "name": key,
                "params": [],
                "peak_lr": peak,
                "lr": peak,
                "weight_decay": config.weight_decay if decays else 0.0,
            },
        )
        group["params"].append(parameter)
    return list(groups.values())


def build_optimiser(model: EpisodicModel, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW over `parameter_groups`."""
    return torch.optim.AdamW(parameter_groups(model, config))


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


class Schedule:
    """Learning-rate factors in [0, 1] by step: warm-up, then half a cosine to zero.

    The encoder's begins when the classifier has warmed up (`head_warmup`; Kumar et al. 2022, arXiv 2202.10054).
    """

    def __init__(self, steps: int, warmup: float, head_warmup: float) -> None:
        """Fix the shape of the schedule: warm-up, then a cosine.

        Args:
            steps: in the whole run.
            warmup: shares of the steps.
            head_warmup: share of the steps in which the encoder stays frozen.
        """
        self.steps = steps
        self.head_steps = int(steps * head_warmup)
        self._warmup = int(steps * warmup)

    def encoder_frozen(self, step: int) -> bool:
        """Whether the encoder is still frozen at `step`, so that only the classifier learns."""
        return step < self.head_steps

    def factor(self, step: int, part: str) -> float:
        """The factor on the peak learning rate of "visual" or "classifier" at `step`, counted from 0."""
        start = self.head_steps if part == "visual" else 0
        if step < start:
            return 0.0
        passed, length = step - start, self.steps - start
        warmup = min(self._warmup, length - 1)
        if passed < warmup:
            return (passed + 1) / (warmup + 1)
        return 0.5 * (1 + math.cos(math.pi * (passed - warmup) / (length - warmup)))

    def apply(self, optimiser: torch.optim.Optimizer, step: int) -> None:
        """Set every group's learning rate for `step`."""
        for group in optimiser.param_groups:
            group["lr"] = group["peak_lr"] * self.factor(step, group["name"].split()[0])
