"""`fewshot predict` as whole processes, from the command to its end, on 300 pictures: what a user waits for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from experiments.benchmarks.inputs import photographs, vit_b_32
from experiments.benchmarks.measure import Row, in_turn, quotients

_TASKS, _WAYS, _SHOTS, _QUERIES = 4, 5, 5, 50
_PLAIN = (
    "import sys; from pathlib import Path\n"
    "from experiments.benchmarks.predicting import plain_script\n"
    "from fewshot.encoders import load_clip\n"
    "plain_script(load_clip(sys.argv[1]), sorted(Path(sys.argv[2]).iterdir()))"
)


def run(scratch: Path, quick: bool) -> list[Row]:
    """Warm with each encoder against `import torch`; cold with ViT-B/32's shape against the script that a user would write."""
    root, weights, rounds = _tasks(scratch / "tasks-300"), str(vit_b_32(scratch)), 1 if quick else 5
    backbones = {"tiny": "tiny", "lite2": "lite2", "ViT-B/32": weights}
    cache = scratch / "cache-of-processes"
    shutil.rmtree(cache, ignore_errors=True)

    def call(*arguments: str, folder: Path = cache) -> None:
        environment = {**os.environ, "FEWSHOT_CACHE": str(folder)}
        subprocess.run([sys.executable, *arguments], env=environment, check=True, capture_output=True)

    def predict(backbone: str, *more: str) -> None:
        call("-m", "fewshot", "predict", str(root), str(scratch / "r.csv"), "--backbone", backbone, *more)

    sides = {name: lambda b=b: predict(b) for name, b in backbones.items()}
    seconds = in_turn({"torch": lambda: call("-c", "import torch"), **sides}, rounds)
    allowed = [1.5 * value + 0.5 for value in seconds["torch"]]
    rows = [
        Row(f"warm predict, a process, {name}", seconds[name], allowed, "s", "1.5 x `import torch` + 0.5 s",
            quotients(seconds[name], allowed), 1.0, True, f"`import torch` alone {min(seconds['torch']):.2f} s")
        for name in backbones
    ]  # fmt: skip
    cold = {
        "cold": lambda: predict(weights, "--no_cache"),
        "plain": lambda: call("-c", _PLAIN, weights, str(root / "testB")),
    }
    seconds = in_turn(cold, 1 if quick else 3, warm_up=False)
    return [
        *rows,
        Row("cold predict, a process, ViT-B/32", seconds["cold"], seconds["plain"], "s", "plain float32 script, a process",
            quotients(seconds["plain"], seconds["cold"]), 3.0, note="300 pictures of 500 x 375; both load the weights"),
    ]  # fmt: skip


def _tasks(root: Path) -> Path:
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
