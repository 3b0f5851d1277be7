"""Train the small CLIP that ships with the package, on photographs and handwritten characters.

    python -m experiments.pretrain_tiny_clip --data DIR --output DIR --minutes 110      # two CPU cores
    python -m experiments.pretrain_tiny_clip --data DIR --output DIR --epochs 300 --device cuda

What ships is fine-tuned once more (see ``experiments.finish_tiny``, which ends with the same table): then add
``--no-held_out``, so that the held-out sets are looked at once, at the very end.

DIR holds tin/{base,val,novel}, omniglot/{base,novel} and, for the table, grocery and pacs, as class folders.
A run that was stopped goes on with ``--resume``, and one that has ended with
``--resume --from_share 0.5 --minutes 60``. It leaves tiny.safetensors, curve.csv, table.csv and table.md in the
output. With ``--teacher`` it learns from an earlier generation, too. Contrast with prompts after Radford et al. 2021
(arXiv 2103.00020); the rest of the recipe is in ``experiments.pretrain``.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from experiments.pretrain import export
from experiments.pretrain.data import check_no_leak, load_pictures
from experiments.pretrain.fit import fit
from experiments.pretrain.schedule import Budget
from experiments.pretrain.table import evaluation_sets, write_tables
from experiments.pretrain.train import Run, Settings


@dataclass(frozen=True)
class Arguments:
    """Train the small CLIP that ships with the package."""

    data: Path  # folder that holds tin, omniglot, grocery and pacs as class folders
    output: Path  # where the run's files go
    epochs: float = 60.0  # passes over the photographs
    minutes: float | None = None  # train for this long instead, however fast the machine turns out to be
    resume: bool = False  # go on from output/checkpoint.pt
    from_share: float | None = None  # with resume: set the schedule back to this share, to train a finished run further
    teacher: Path | None = None  # weights of an earlier generation, whose soft labels are learned beside the labels
    device: str = "cpu"
    precision: str = "bf16"  # bf16 or 32
    shards: int | None = None  # parts of a step side by side; default: the cores on a CPU, one on a GPU
    batch_photos: int = 336
    batch_characters: int = 48
    learning_rate: float = 1e-3
    muon_rate: float = 2e-3
    seed: int = 0
    compile: bool = True
    log_every: float = 300.0  # seconds between lines of the curve and checkpoints
    episodes: int = 2000  # of the table at the end
    held_out: bool = True  # measure tin novel and the other sets in it, too; without, tin val alone


def settings_of(arguments: Arguments) -> Settings:
    """The run's settings; shards default to what the device has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shards = arguments.shards or (cores if arguments.device == "cpu" else 1)
    return Settings(
        epochs=arguments.epochs,
        minutes=arguments.minutes,
        shards=shards,
        batch_photos=arguments.batch_photos,
        batch_characters=arguments.batch_characters,
        learning_rate=arguments.learning_rate,
        muon_rate=arguments.muon_rate,
        seed=arguments.seed,
        device=arguments.device,
        precision=arguments.precision,
        compile=arguments.compile,
    )


def train(arguments: Arguments) -> Path:
    """Train and export; returns the path of the weights. Refuses to overwrite a run unless asked to resume it."""
    data, output = arguments.data, arguments.output
    checkpoint = output / "checkpoint.pt"
    if checkpoint.exists() and not arguments.resume:
        raise FileExistsError(f"{checkpoint}: a run is there already; add --resume or choose another --output")
    share = arguments.from_share
    if share is not None and not (arguments.resume and 0 <= share < 1):
        raise ValueError(f"--from_share {share}: expected a share from 0 to below 1, together with --resume")
    photos = load_pictures(data / "tin" / "base")
    characters = load_pictures(data / "omniglot" / "base")
    validation = load_pictures(data / "tin" / "val")
    check_no_leak(data, photos.class_names, characters.class_names)
    teacher = export.read(arguments.teacher) if arguments.teacher is not None else None
    run = Run(settings_of(arguments), photos, characters, teacher)
    if arguments.resume:
        run.load(checkpoint)
    if share is not None:
        run.budget = Budget(share=share)
    output.mkdir(parents=True, exist_ok=True)
    fit(run, output, validation.to(arguments.device), arguments.log_every)
    weights = output / "tiny.safetensors"
    export.write(run.average, run.token_rows, weights)
    return weights


def main(arguments: Arguments) -> None:
    """Train, export, measure."""
    began = time.monotonic()
    weights = train(arguments)
    minutes = (time.monotonic() - began) / 60
    print(f"{weights}: {weights.stat().st_size / 2**20:.1f} MB after {minutes:.0f} minutes")
    sets = evaluation_sets(arguments.data) if arguments.held_out else {"tin val": arguments.data / "tin" / "val"}
    write_tables(sets, {"tiny": export.read(weights)}, arguments.output, arguments.episodes)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Arguments, description=__doc__))
