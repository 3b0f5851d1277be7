r"""Last step of making `tiny`: put the encoder of an episodic fine-tuning run into the shipped file.

    fewshot train --train_data DATA/tin/base --val_data DATA/tin/val --backbone STAGE/tiny.safetensors \
        --unfreeze_blocks 2 --visual_lr 1e-4 --batch_size 96 --views 4 --output RUN
    python -m experiments.finish_tiny RUN STAGE/tiny.safetensors fewshot/encoders/tiny/tiny.safetensors --data DATA

STAGE is the output of ``experiments.pretrain_tiny_clip``, whose text side stays as it was. Only a run whose tuned encoder
was kept, which validation decides, is taken. The statistics of tin base that ship beside it are computed anew. The tables of
tiny, of what came before the fine-tuning, of an untrained network and of raw pixels on every set, tin novel among them, are
made here, after everything is chosen.
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
from experiments.pretrain import export
from experiments.pretrain.table import evaluation_sets, write_tables
from fewshot import load_checkpoint
from fewshot.classifiers.statistics import statistics_of_folder
from fewshot.encoders import load_encoder
from fewshot.encoders.tiny import STATISTICS


@dataclass(frozen=True)
class Options:
    """Put a finished run's encoder into the file of `tiny`."""

    run: Annotated[Path, tyro.conf.Positional]
    """A folder that `fewshot train --backbone STAGE` made; the tables go there."""
    stage: Annotated[Path, tyro.conf.Positional]
    """The weights that it began with."""
    weights: Annotated[Path, tyro.conf.Positional]
    """The file of `tiny`, which is replaced."""
    data: Path | None = None
    """Where tin, omniglot, grocery and pacs are; without it no statistics and no tables are made."""
    episodes: int = 2000
    """Of the tables."""


def finish(run: Path, stage: Path, weights: Path) -> None:
    """Write `stage` with the visual tensors that `run` kept, as float16, to `weights`.

    Raises:
        DataError: the run kept the untouched encoder, is of another network, or did not begin with `stage`.
    """
    checkpoint = load_checkpoint(run)
    if not checkpoint.tuned:
        raise DataError(f"{run}: validation kept the untouched encoder; there is nothing better to ship")
    tensors = load_file(stage)
    tuned = checkpoint.encoder.state_dict()
    before = {name: value.shape for name, value in tensors.items() if name.startswith("visual.")}
    if {name: value.shape for name, value in tuned.items()} != before:
        raise DataError(f"{run}: its encoder is not of the shape of {stage}")
    began = checkpoint.untouched_encoder().state_dict()
    if any(not torch.equal(began[name].half(), tensors[name]) for name in before):
        raise DataError(f"{run}: it did not begin with {stage}; name the weights that it began with")
    beside = weights.with_name(f".{weights.name}.part")
    save_file({**tensors, **{name: value.to(torch.float16).contiguous() for name, value in tuned.items()}}, beside)
    os.replace(beside, weights)


def main(options: Options) -> None:
    """Finish, and measure where there is something to measure on.

    Raises:
        DataError: see `finish`; or there are no image sets in `data`.
    """
    sets = evaluation_sets(options.data) if options.data is not None else {}
    if options.data is not None and not sets:
        raise DataError(f"{options.data}: expected tin/val and the other image sets as class folders, found none")
    finish(options.run, options.stage, options.weights)
    if sets and options.data is not None:
        statistics = statistics_of_folder(
            load_encoder(str(options.weights)), options.data / "tin" / "base", precision="32"
        )
        save_file(statistics.to_tensors(), options.weights.with_name(STATISTICS))
        models = {"tiny": export.read(options.weights), "before": export.read(options.stage)}
        write_tables(sets, models, options.run, options.episodes)


if __name__ == "__main__":
    try:
        main(tyro.cli(Options, use_underscores=True))
    except DataError as error:
        sys.exit(f"finish_tiny: {error}")
