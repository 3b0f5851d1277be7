"""The whole job on drawn characters: class folders and tasks, train, predict before and after, score."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

from episodes import (
    EpisodeSampler,
    ScoreResult,
    read_class_folders,
    score_predictions,
    write_predictions,
    write_task_directory,
)
from episodes.errors import DataError
from episodes.files import display_name
from fewshot.checkpoint import load_checkpoint
from fewshot.classifiers.prototype import Prototype
from fewshot.config import TrainConfig
from fewshot.console import Console
from fewshot.demo.folders import draw_demo
from fewshot.device import Precision, resolve_device
from fewshot.encoders.base import VisionEncoder
from fewshot.images.augmentation import Augmentation
from fewshot.predict import predict
from fewshot.run_files import is_finished
from fewshot.training.loop import train

TASKS, WAYS, SHOTS, QUERIES = 100, 5, 1, 15


@dataclass(frozen=True)
class DemoResult:
    """Accuracy on tasks of alphabets that training never saw, and where everything lies."""

    before: ScoreResult
    after: ScoreResult
    root: Path
    tasks: Path
    truth: Path
    checkpoint: Path
    before_csv: Path
    after_csv: Path


def demo_config(root: Path, *, seed: int = 0, workers: int | None = None) -> TrainConfig:
    """How the demo trains: all of the embedded encoder, for a few minutes on two cores."""
    return TrainConfig(
        train_data=root / "pictures" / "train",
        val_data=root / "pictures" / "val",
        output=root / "checkpoint",
        backbone="tiny",
        unfreeze_blocks="all",
        epochs=4,
        batch_size=80,
        ways=20,
        visual_lr=2e-4,
        classifier_lr=1e-3,
        augmentation=Augmentation(crop_scale=(0.7, 1.0), flip=0.0, colour=0.0, rotation=10.0),
        val_queries=10,
        val_episodes=300,
        seed=seed,
        workers=workers,
    )


def run_demo(
    root: str | Path,
    console: Console,
    *,
    seed: int = 0,
    workers: int | None = None,
    device: str = "auto",
    precision: Precision = "auto",
) -> DemoResult:
    """Draw, train, predict, score; what an earlier call finished in the same folder is not done again.

    Raises:
        DataError: the folder holds something else, or the demo of another seed.
    """
    root = Path(root)
    _claim(root, seed)
    with console.bar("drawing characters") as advance:
        folders = draw_demo(root / "pictures", seed=seed, progress=advance)
    tasks, truth = root / "tasks" / "testB", root / "tasks" / "truth.csv"
    if not truth.is_file():
        table = read_class_folders(folders.test)
        sampler = EpisodeSampler(table, ways=WAYS, shots=SHOTS, queries=QUERIES, seed=seed, episodes=TASKS)
        write_task_directory(table, sampler, root / "tasks", seed=seed)
    console.line(
        f"{tasks}: {TASKS} tasks of {WAYS} characters, {SHOTS} labelled picture each, of alphabets not trained on"
    )
    config = dataclasses.replace(demo_config(root, seed=seed, workers=workers), device=device, precision=precision)
    folder = root / "checkpoint"
    if is_finished(folder):
        console.line(f"{folder}: trained already (delete it to train anew)")
    else:
        train(dataclasses.replace(config, resume=(folder / "config.json").exists()), console)
    loaded = load_checkpoint(folder, resolve_device(device))
    scores = {
        name: _predict(tasks, truth, root / f"{name}.csv", encoder, workers, precision)
        for name, encoder in (("before", loaded.untouched_encoder()), ("after", loaded.encoder))
    }
    return DemoResult(
        scores["before"], scores["after"], root, tasks, truth, folder, root / "before.csv", root / "after.csv"
    )


def _claim(root: Path, seed: int) -> None:
    """Note the seed in the folder, so that nothing of two seeds is mixed.

    Raises:
        DataError: it is no folder, none can be made there, or it holds the demo of another seed.
    """
    expected = f"{display_name(os.fspath(root))}: expected a new folder, or one that 'fewshot demo' made before"
    if os.path.lexists(root) and not root.is_dir():
        raise DataError(f"{expected}, found a file. Name another: fewshot demo DIR")
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{expected}, but none can be made there ({error.strerror}). Name another: fewshot demo DIR"
        ) from error
    note = root / "seed.txt"
    found = note.read_text(encoding="utf-8").strip() if note.is_file() else str(seed)
    if found != str(seed):
        raise DataError(
            f"{root}: holds the demo of seed {found}; give another folder for seed {seed}, or delete this one"
        )
    note.write_text(f"{seed}\n", encoding="utf-8")


def _predict(
    tasks: Path, truth: Path, result: Path, encoder: VisionEncoder, workers: int | None, precision: Precision
) -> ScoreResult:
    prediction = predict(tasks, encoder, Prototype(), find_truth=False, workers=workers, precision=precision)
    write_predictions(prediction.frame, result)
    return score_predictions(result, truth)
