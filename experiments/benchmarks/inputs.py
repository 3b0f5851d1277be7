"""What the benchmarks work on, made anew in a temporary folder: weights in OpenAI's format, photographs, folders, features."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from clip.model import CLIP, convert_weights
from PIL import Image
from torch import Tensor

from episodes import Episode, ImageTable, read_class_folders, write_task_directory


def vit_b_32(folder: Path) -> Path:
    """Weights of ViT-B/32's shape, random, in a file as OpenAI's are; made once a folder."""
    path = folder / "vit-b-32-random.pt"
    if not path.exists():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = CLIP(512, 224, 12, 768, 32, 77, 49408, 512, 8, 12).eval()
        convert_weights(model)
        torch.save(model.state_dict(), path)
    return path


def timm_resnet(root: Path) -> str:
    """Random weights of timm's resnet18, laid down as `fewshot download --download_root` does; its name as a backbone."""
    import timm

    name = "resnet18.a1_in1k"
    place = root / f"models--timm--{name}"
    if not place.is_dir():
        (place / "refs").mkdir(parents=True)
        (place / "refs" / "main").write_text("0" * 40)
        with torch.random.fork_rng(devices=[]):
            model = timm.create_model(name)
        timm.models.save_for_hf(model, str(place / "snapshots" / ("0" * 40)), safe_serialization=True)
    return f"timm:{name}"


def photographs(count: int, width: int = 500, height: int = 375, seed: int = 0) -> list[bytes]:
    """Distinct JPEG files (quality 90) with detail at every scale, as photographs have it: windows into a few large ones."""
    generator = np.random.default_rng(seed)
    large = [_photograph(2 * width, 2 * height, generator) for _ in range(max(2, min(24, count // 8)))]
    files = []
    for i in range(count):
        left, top = int(generator.integers(0, width)), int(generator.integers(0, height))
        window = large[i % len(large)].crop((left, top, left + width, top + height))
        buffer = io.BytesIO()
        window.save(buffer, "JPEG", quality=90, comment=str(i).encode())
        files.append(buffer.getvalue())
    return files


def _photograph(width: int, height: int, generator: np.random.Generator) -> Image.Image:
    total = np.zeros((height, width, 3), dtype=np.float32)
    for octave in range(1, 9):
        cells = (max(2, height * 2**octave // 256), max(2, width * 2**octave // 256), 3)
        coarse = Image.fromarray(generator.integers(0, 256, cells, dtype=np.uint8))
        total += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32) / 1.6**octave
    total -= total.min()
    return Image.fromarray((total / total.max() * 255).astype(np.uint8))


def class_folders(root: Path, classes: int, each: int, *, first: int = 0, **settings: int) -> Path:
    """`classes` folders of `each` photographs, numbered from `first` on; settings as in `photographs`."""
    if not root.exists():
        files = photographs(classes * each, **settings)
        for i, data in enumerate(files):
            folder = root / f"class{first + i // each:03d}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{i % each:04d}.jpg").write_bytes(data)
    return root


def tasks(root: Path, count: int, **settings: int) -> Path:
    """`count` tasks of 5 x 5 support and 75 queries: support is shared between tasks, every query is new."""
    if root.exists():
        return root
    classes, shots, queries = 20, 5, 15
    each = shots + queries * -(-count * 5 // classes)
    table = read_class_folders(class_folders(root.with_name(f"{root.name}-pictures"), classes, each, **settings))
    used = np.zeros(classes, dtype=np.int64)
    episodes = [_task(table, i, used, shots, queries, classes) for i in range(count)]
    write_task_directory(table, episodes, root)
    return root


def _task(table: ImageTable, number: int, used: npt.NDArray[Any], shots: int, queries: int, classes: int) -> Episode:
    chosen = [(number * 5 + i) % classes for i in range(5)]
    support, query = [], []
    for label in chosen:
        rows = table.rows_of(label)
        support.append(rows[:shots])
        start = shots + used[label]
        query.append(rows[start : start + queries])
        used[label] += queries
    names = tuple(table.class_names[label] for label in chosen)
    labels = np.arange(5)
    return Episode(
        f"task{number}",
        names,
        np.concatenate(support),
        np.repeat(labels, shots),
        np.concatenate(query),
        np.repeat(labels, queries),
    )


def features(classes: int, each: int, width: int = 512) -> tuple[Tensor, ImageTable]:
    """(classes * each, width) unit-norm features around one centre a class, and their table; accuracies are near 99 %."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(classes, width, generator=generator)
    noisy = 0.35 * centres.repeat_interleave(each, 0) + torch.randn(classes * each, width, generator=generator)
    return torch.nn.functional.normalize(noisy, dim=-1), numbered_table(classes, each)


def numbered_table(classes: int, each: int) -> ImageTable:
    """A table whose items are numbers."""
    labels = np.repeat(np.arange(classes, dtype=np.int32), each)
    return ImageTable(range(classes * each), labels, tuple(f"class{i}" for i in range(classes)))


def rows_by_class(episode: Episode) -> list[int]:
    """Support then query of each class in turn: the order in which easyfsl and learn2learn lay out a task."""
    rows: list[int] = []
    for label in range(len(episode.class_names)):
        for part, labels in ((episode.support, episode.support_labels), (episode.query, episode.query_labels)):
            rows += part[np.asarray(labels) == label].tolist()
    return rows


__all__: Sequence[str] = (
    "class_folders",
    "features",
    "numbered_table",
    "photographs",
    "rows_by_class",
    "tasks",
    "vit_b_32",
)
