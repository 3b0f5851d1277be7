"""What `--tune` trains: the encoder itself with a part of it marked, or a copy with low-rank additions."""

from __future__ import annotations

from fewshot.config import TrainConfig
from fewshot.encoders.base import VisionEncoder
from fewshot.encoders.parts import unfreeze_part
from fewshot.training.lora import mark_lora, with_lora


def mark_tuned(encoder: VisionEncoder, config: TrainConfig) -> None:
    """Mark what is tuned, in place; where the frozen part ends follows from it.

    Args:
        encoder: Untouched.
        config: Of the run.

    Raises:
        UsageError: There are not so many blocks, or the encoder has no such part.
    """
    if config.tune == "lora":
        mark_lora(encoder, config.unfreeze_blocks)
    else:
        unfreeze_part(encoder, config.tune, config.unfreeze_blocks)


def to_train(encoder: VisionEncoder, config: TrainConfig, seed: int) -> VisionEncoder:
    """What the optimiser works on.

    Args:
        encoder: As `mark_tuned` left it.
        config: Of the run.
        seed: Of LoRA's initial values.

    Returns:
        The encoder itself, or its copy with additions.

    Raises:
        UsageError: `--tune lora` without peft.
    """
    if config.tune == "lora" and config.unfreeze_blocks != 0:
        return with_lora(encoder, config.lora_rank, seed)
    return encoder
