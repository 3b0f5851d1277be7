"""The table at the end of a run: few-shot accuracy on unseen classes, beside what costs nothing."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import clip
import torch
import torch.nn.functional as F
from clip.model import CLIP
from torch import Tensor

from experiments.pretrain.data import SIZE, Pictures, class_folders, load_pictures
from experiments.pretrain.measure import embed, ncm_accuracy
from experiments.pretrain.model import Shape, encode_text, make_clip
from experiments.pretrain.vocabulary import words

Embed = Callable[[Tensor], Tensor]  # uint8 pictures (n, 3, s, s) -> unit vectors (n, E)


@dataclass(frozen=True)
class Row:
    """One cell of the table: accuracy and 95 % half-width, both in [0, 1]."""

    encoder: str
    data: str
    shots: int
    accuracy: float
    ci95: float


def evaluation_sets(data: Path) -> dict[str, Path]:
    """Name -> folder of class folders, of those that are there: tin val first, the only one anything is chosen on."""
    named = {
        "tin val": data / "tin" / "val",
        "tin novel": data / "tin" / "novel",
        "omniglot novel": data / "omniglot" / "novel",
        "grocery": data / "grocery",
    }
    named |= {f"pacs {domain}": data / "pacs" / domain for domain in sorted(class_folders(data / "pacs"))}
    return {name: folder for name, folder in named.items() if class_folders(folder)}


def raw_pixels(pixels: Tensor) -> Tensor:
    """uint8 (n, 3, s, s) -> the pixels themselves as unit vectors (n, 3 s s), with grey as the origin."""
    return F.normalize(pixels.flatten(1).float() / 255 - 0.5, dim=-1)


def few_shot_rows(
    encoders: dict[str, Embed], sets: Iterable[tuple[str, Pictures]], episodes: int, seed: int
) -> list[Row]:
    """5-way prototypes of every encoder on every set at 1 and 5 shots, on the same episodes."""
    rows = []
    for data, pictures in sets:
        for encoder, function in encoders.items():
            features = function(pictures.pixels)
            for shots in (1, 5):
                accuracy, ci95 = ncm_accuracy(features, pictures.labels, shots, seed, episodes)
                rows.append(Row(encoder, data, shots, accuracy, ci95))
    return rows


@torch.no_grad()
def zero_shot(model: CLIP, pictures: Pictures, size: int) -> tuple[float, float]:
    """Accuracy and 95 % half-width over pictures of naming each by the nearest "a photo of a <class>." of its set."""
    tokens = clip.tokenize([f"a photo of a {words(name)}." for name in pictures.class_names]).long()
    text = F.normalize(encode_text(model, tokens, torch.float32), dim=-1)
    predicted = (embed(model, pictures.pixels, size, torch.float32) @ text.T).argmax(-1)
    accuracy = (predicted == pictures.labels).float().mean().item()
    return accuracy, 1.96 * (accuracy * (1 - accuracy) / len(pictures)) ** 0.5


def write_tables(
    sets: dict[str, Path], models: dict[str, CLIP], output: Path, episodes: int, seed: int = 0
) -> list[Row]:
    """Measure few-shot accuracy on ``sets``, print it, and write it as table.csv and table.md.

    Measured are the models, an untrained network of the default shape and raw pixels; on the sets of tin also the first model's
    zero-shot accuracy.
    """
    first = next(iter(models.values()))
    seen = {**models, "untrained": make_clip(Shape(), 1, seed)}
    encoders: dict[str, Embed] = {
        name: partial(embed, model, size=SIZE, dtype=torch.float32) for name, model in seen.items()
    }
    decoded = ((name, load_pictures(folder)) for name, folder in sets.items())
    rows = few_shot_rows({**encoders, "raw pixels": raw_pixels}, decoded, episodes, seed)
    text = markdown(rows)
    for name, folder in sets.items():
        if name.startswith("tin "):
            pictures = load_pictures(folder)
            classes, (accuracy, ci95) = len(pictures.class_names), zero_shot(first, pictures, SIZE)
            rows.append(Row(next(iter(models)), f"{name}, zero-shot of {classes} classes", 0, accuracy, ci95))
            text += f"\n\nzero-shot by class names, {name}: {100 * accuracy:.1f} ± {100 * ci95:.1f} % "
            text += f"({len(pictures)} pictures of {classes} classes)"
    with (output / "table.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(asdict(rows[0])))
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    (output / "table.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    return rows


def markdown(rows: list[Row]) -> str:
    """The rows as a Markdown table: a line for each set, a column for each encoder and shot, in percent."""
    columns = list(dict.fromkeys((row.encoder, row.shots) for row in rows))
    cell = {(row.data, row.encoder, row.shots): f"{100 * row.accuracy:.1f} ± {100 * row.ci95:.1f}" for row in rows}
    lines = ["| set | " + " | ".join(f"{encoder}, {shots}-shot" for encoder, shots in columns) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for data in dict.fromkeys(row.data for row in rows):
        keys = [(data, *column) for column in columns]
        lines.append(f"| {data} | " + " | ".join(cell[key] for key in keys) + " |")
    return "\n".join(lines)
