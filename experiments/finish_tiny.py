"""Last step of making `tiny`: put the encoder of an episodic fine-tuning run into the shipped file.

    fewshot train --train_data DATA/tin/base --val_data DATA/tin/val --backbone tiny --unfreeze_blocks 2 \\
        --visual_lr 1e-4 --epochs 1 --batch_size 96 --output RUN
    python -m experiments.finish_tiny RUN fewshot/encoders/tiny/tiny.safetensors

The text side stays as it was. Only a run whose tuned encoder was kept, which validation decides, is taken.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from safetensors.torch import load_file, save_file

from episodes.errors import DataError
from fewshot import load_checkpoint


@dataclass(frozen=True)
class Options:
    """Put a finished run's encoder into the file of `tiny`."""

    run: Annotated[Path, tyro.conf.Positional]
    """A folder that `fewshot train --backbone tiny` made."""
    weights: Annotated[Path, tyro.conf.Positional]
    """The file of `tiny`, which is replaced."""


def finish(run: Path, weights: Path) -> None:
    """Replace the visual tensors of `weights` by those that `run` kept, as float16.

    Raises:
        DataError: the run kept the untouched encoder, or is of another network.
    """
    checkpoint = load_checkpoint(run)
    if not checkpoint.tuned:
        raise DataError(f"{run}: validation kept the untouched encoder; there is nothing better to ship")
    tensors = load_file(weights)
    tuned = checkpoint.encoder.state_dict()
    before = {name: value.shape for name, value in tensors.items() if name.startswith("visual.")}
    if {name: value.shape for name, value in tuned.items()} != before:
        raise DataError(f"{run}: its encoder is not of the shape of {weights}")
    beside = weights.with_name(f".{weights.name}.part")
    save_file({**tensors, **{name: value.to(torch.float16).contiguous() for name, value in tuned.items()}}, beside)
    os.replace(beside, weights)


if __name__ == "__main__":
    options = tyro.cli(Options, use_underscores=True)
    try:
        finish(options.run, options.weights)
    except DataError as error:
        sys.exit(f"finish_tiny: {error}")
