"""learn2learn's task sets: made by itself, which opens every picture to learn its class, and by `to_taskset`, which opens none."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torchvision as tv
from PIL import Image

from episodes import EpisodeSampler, read_class_folders
from episodes.interop import import_learn2learn, to_taskset
from experiments.benchmarks.measure import Row, in_turn, quotients

CLASSES = 100


def run(scratch: Path, quick: bool) -> list[Row]:
    """40,000 pictures of 32 x 32 in 100 classes; tasks of 5 ways, 5 shots and 15 queries, with their pictures and without."""
    count, tasks, rounds = (4_000, 10, 3) if quick else (40_000, 50, 5)
    root = _pictures(scratch / f"pictures-{count}", count)
    made: dict[str, Any] = {}

    def ours() -> None:
        made["ours"] = to_taskset(_sampler(root), tv.transforms.ToTensor())

    def theirs() -> None:
        made["theirs"] = _theirs(root)

    ours()  # once before: what is imported, and the folders' names, are there for both
    making = in_turn({"ours": ours, "theirs": theirs}, 1 if quick else 2, warm_up=False)
    sides = {"opening": to_taskset(_sampler(root), tv.transforms.ToTensor(), keep=0), **made}

    def load(side: str) -> None:
        sides[side].sampled_descriptions.clear()
        for number in range(tasks):
            assert len(sides[side][number][0]) == 100

    def describe(side: str) -> None:
        sides[side].sampled_descriptions.clear()
        for _ in range(20 * tasks):  # new ones in every round
            sides[side].sample_task_description()

    random.seed(0)
    loading = in_turn({side: partial(load, side) for side in sides}, rounds)
    describing = in_turn({side: partial(describe, side) for side in made}, rounds)
    opened = {"ours": loading.pop("opening"), "theirs": loading["theirs"]}
    return [
        Row(f"a learn2learn task set of {count:,} pictures", making["ours"], making["theirs"], "s",
            "learn2learn MetaDataset and Taskset", quotients(making["theirs"], making["ours"]),
            note="ours lists the folders; learn2learn decodes every picture"),
        _rate("a task's description alone", describing, 20 * tasks, "never asked for before; one object a picture on both sides"),
        _rate("a task of 100 pictures, each decoded (keep=0)", opened, tasks, "both decode with Pillow and call ToTensor"),
        _rate("a task of 100 pictures seen before", loading, tasks, "ours keeps decoded pictures (512 MiB unless told), learn2learn none"),
    ]  # fmt: skip


def _sampler(root: Path) -> EpisodeSampler:
    return EpisodeSampler(read_class_folders(root), ways=5, shots=5, queries=15, episodes=200_000)


def _theirs(root: Path) -> Any:
    data = import_learn2learn().data
    dataset = data.MetaDataset(tv.datasets.ImageFolder(str(root), tv.transforms.ToTensor()))
    steps = [data.transforms.FusedNWaysKShots(dataset, n=5, k=20), data.transforms.LoadData(dataset)]
    steps += [data.transforms.RemapLabels(dataset), data.transforms.ConsecutiveLabels(dataset)]
    return data.Taskset(dataset, steps, num_tasks=200_000)


def _rate(name: str, seconds: dict[str, list[float]], count: int, note: str) -> Row:
    rates = {side: [count / value for value in values] for side, values in seconds.items()}
    return Row(
        name, rates["ours"], rates["theirs"], "tasks/s", "learn2learn", quotients(seconds["theirs"], seconds["ours"]), note=note
    )  # fmt: skip


def _pictures(root: Path, count: int) -> Path:
    generator = np.random.default_rng(0)
    if not root.exists():
        for number in range(count):
            folder = root / f"class{number % CLASSES:03d}"
            folder.mkdir(parents=True, exist_ok=True)
            pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((32, 32)).save(folder / f"{number:05d}.jpg")
    return root
