"""`fewshot predict` as whole processes, from the command to its end, on 300 pictures whose embeddings are cached: what a user waits for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from experiments.benchmarks.inputs import photographs, timm_resnet, vit_b_32
from experiments.benchmarks.measure import Row, in_turn, quotients

_TASKS, _WAYS, _SHOTS, _QUERIES = 4, 5, 5, 50


def run(scratch: Path, quick: bool) -> list[Row]:
    """Each kind of encoder against what it may take: one and a half times `import torch`, and half a second."""
    root, rounds = tasks_of_300(scratch / "tasks-300"), 1 if quick else 5
    hub = timm_resnet(scratch / "hub")
    backbones = {
        "tiny": ["tiny"],
        "lite2": ["lite2"],
        "lite2+tiny": ["lite2+tiny"],
        "ViT-B/32": [str(vit_b_32(scratch))],
        "timm:resnet18": [hub, "--download_root", str(scratch / "hub")],
    }
    call = caller(scratch / "cache-of-processes")

    def predict(backbone: list[str]) -> None:
        call("-m", "fewshot", "predict", str(root), str(scratch / "r.csv"), "--backbone", *backbone)

    sides = {name: lambda words=words: predict(words) for name, words in backbones.items()}
    seconds = in_turn({"torch": lambda: call("-c", "import torch"), **sides}, rounds)
    allowed = [1.5 * value + 0.5 for value in seconds["torch"]]
    return [
        Row(f"warm predict, a process, {name}", seconds[name], allowed, "s", "1.5 x `import torch` + 0.5 s",
            quotients(seconds[name], allowed), 1.0, True, f"`import torch` alone {min(seconds['torch']):.2f} s")
        for name in backbones
    ]  # fmt: skip


def caller(cache: Path) -> Callable[..., None]:
    """Runs Python with words behind it, to its end, with an empty cache of its own."""
    shutil.rmtree(cache, ignore_errors=True)

    def call(*words: str) -> None:
        environment = {**os.environ, "FEWSHOT_CACHE": str(cache)}
        subprocess.run([sys.executable, *words], env=environment, check=True, capture_output=True)

    return call


def tasks_of_300(root: Path) -> Path:
    """300 distinct pictures as four tasks; made once a folder."""
    if root.is_dir():
        return root
    files = iter(photographs(_TASKS * (_WAYS * _SHOTS + _QUERIES)))
    for task in (root / "testB" / f"task{number + 1}" for number in range(_TASKS)):
        names = [f"support/class{way}/{shot}.jpg" for way in range(_WAYS) for shot in range(_SHOTS)]
        for name in (*names, *(f"query/{number}.jpg" for number in range(_QUERIES))):
            path = task / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(next(files))
    return root
