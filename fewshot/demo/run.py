"""The whole job on drawn characters: class folders and tasks, train, predict before and after, score."""

from __future__ import annotations

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
from fewshot.augment import Augmentation
from fewshot.cache import EmbeddingCache
from fewshot.classifiers.prototype import Prototype
from fewshot.console import Console
from fewshot.demo.folders import draw_demo
from fewshot.encoders.base import VisionEncoder
from fewshot.predict import predict
from fewshot.training.checkpoint import is_finished, load_checkpoint
from fewshot.training.config import TrainConfig
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
        epochs=8,
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


def run_demo(root: str | Path, console: Console, *, seed: int = 0, workers: int | None = None) -> DemoResult:
    """Draw, train, predict, score; what an earlier call finished in the same folder is not done again.

    Raises:
        DataError: the folder holds something else.
    """
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
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
    config = demo_config(root, seed=seed, workers=workers)
    folder = root / "checkpoint"
    if is_finished(folder):
        console.line(f"{folder}: trained already (delete it to train anew)")
    else:
        unfinished = (folder / "config.json").exists()
        train(_resumed(config) if unfinished else config, console)
    loaded = load_checkpoint(folder)
    scores = {
        name: _predict(tasks, truth, root / f"{name}.csv", encoder, workers)
        for name, encoder in (("before", loaded.untouched_encoder()), ("after", loaded.encoder))
    }
    return DemoResult(
        scores["before"], scores["after"], root, tasks, truth, folder, root / "before.csv", root / "after.csv"
    )


def _resumed(config: TrainConfig) -> TrainConfig:
    import dataclasses

    return dataclasses.replace(config, resume=True)


def _predict(tasks: Path, truth: Path, result: Path, encoder: VisionEncoder, workers: int | None) -> ScoreResult:
    cache = EmbeddingCache(os.path.join(tasks.parent, "embeddings.sqlite"))
    prediction = predict(tasks, encoder, Prototype(), find_truth=False, workers=workers, cache=cache)
    cache.close()
    write_predictions(prediction.frame, result)
    return score_predictions(result, truth)
