"""`predict` on 40 tasks, against the plain script that a user would write, task by task and picture by picture."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clip.clip import _transform
from PIL import Image
from torch import Tensor

from experiments.benchmarks.inputs import tasks, vit_b_32
from experiments.benchmarks.measure import Row, quotients
from fewshot.classifiers import build_classifier
from fewshot.device import Precision, resolve_precision
from fewshot.embedding.cache import EmbeddingCache
from fewshot.encoders import VisionEncoder, load_clip, load_encoder
from fewshot.predict import Prediction, predict


def plain_script(model: Any, folders: list[Path]) -> dict[tuple[str, str], str]:
    """What a user would write: clip's own preprocessing and float32 model, one picture at a time; (task, picture) -> class."""
    preprocess = _transform(model.visual.input_resolution)

    def embed(path: Path) -> Tensor:
        with torch.no_grad():
            feature = model.encode_image(preprocess(Image.open(path)).unsqueeze(0))[0]
        unit: Tensor = feature / feature.norm()
        return unit

    named = {}
    for folder in folders:
        classes = sorted(path for path in (folder / "support").iterdir())
        prototypes = torch.stack([torch.stack([embed(p) for p in sorted(c.iterdir())]).mean(0) for c in classes])
        prototypes = prototypes / prototypes.norm(dim=-1, keepdim=True)
        for path in sorted((folder / "query").iterdir()):
            named[folder.name, path.name] = classes[int((prototypes @ embed(path)).argmax())].name
    return named


def run(scratch: Path, quick: bool) -> list[Row]:
    """Cold and warm; the plain script runs every eighth task, and its time is multiplied."""
    count, rounds = (8, 1) if quick else (40, 3)
    root = tasks(scratch / f"tasks-{count}", count)
    weights = str(vit_b_32(scratch))
    encoder, model = load_encoder(weights), load_clip(weights)
    folders = sorted((root / "testB").iterdir())[::8]
    share = count / len(folders)
    seconds: dict[str, list[float]] = {name: [] for name in ("plain", "cold", "warm", "float32")}
    found: dict[str, Prediction] = {}
    for number in range(rounds):
        started = time.perf_counter()
        plain = plain_script(model, folders)
        seconds["plain"].append(share * (time.perf_counter() - started))
        cache = EmbeddingCache(scratch / "cache.sqlite")
        cache.clear()  # a kept scratch folder holds that of an earlier run
        for name in ("cold", "warm"):
            taken, found[name] = _predict(root, encoder, cache)
            seconds[name].append(taken)
            assert (found[name].embeddings.computed > 0) == (name == "cold")
        if number == 0:
            taken, found["float32"] = _predict(root, encoder, None, "32")
            seconds["float32"].append(taken)
    return _rows(count, len(folders), seconds, found, plain, resolve_precision("auto", encoder.device))


def _predict(
    root: Path, encoder: VisionEncoder, cache: EmbeddingCache | None, precision: Precision = "auto"
) -> tuple[float, Prediction]:
    started = time.perf_counter()
    prediction = predict(
        root, encoder, build_classifier("prototype"), find_truth=False, precision=precision, cache=cache
    )
    assert len(prediction.frame) == len(prediction.results.row)
    return time.perf_counter() - started, prediction


def _rows(
    count: int,
    scripted: int,
    seconds: dict[str, list[float]],
    found: dict[str, Prediction],
    plain: dict[tuple[str, str], str],
    precision: str,
) -> list[Row]:
    """Seconds are of the whole `predict`, from listing the tasks to the rows of the CSV; loading the weights is in none."""
    labels = {name: _labels(prediction) for name, prediction in found.items()}
    differ = int((np.array(list(labels["cold"].values())) != np.array(list(labels["float32"].values()))).sum())
    off = sum(labels["float32"][key] != value for key, value in plain.items())
    script = f"plain float32 script, from {scripted} tasks"
    note = (
        f"{differ} of {len(labels['cold'])} labels differ between {precision} and float32; {off} of {len(plain)} between ours in "
        "float32 and the script (weights are random, so margins are small)"
    )
    return [
        Row(f"predict, {count} tasks, cold, {precision}", seconds["cold"], seconds["plain"], "s", script,
            quotients(seconds["plain"], seconds["cold"]), 3.0, note=note),
        Row(f"predict, {count} tasks, cold, float32", seconds["float32"], seconds["plain"], "s", script,
            quotients(seconds["plain"][:1], seconds["float32"])),
        Row("predict with a warm cache", seconds["warm"], seconds["cold"], "s", "cold, in one process",
            quotients(seconds["cold"], seconds["warm"]), 50.0),
    ]  # fmt: skip


def _labels(prediction: Prediction) -> dict[tuple[str, str], str]:
    frame = prediction.frame
    return {
        (task, image): label for task, image, label in zip(frame["task"], frame["image"], frame["label"], strict=True)
    }
