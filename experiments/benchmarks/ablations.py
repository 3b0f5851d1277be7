"""One ablation of five runs with caches that its runs share, and without: training, and measuring on new classes."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from experiments.benchmarks.inputs import class_folders
from experiments.benchmarks.measure import Row, quotients
from experiments.engine.ablation import load
from experiments.engine.measure import TestPlan
from experiments.engine.run import run_ablation
from fewshot.config import TrainConfig
from fewshot.console import Console

BAR = 2.0


def run(scratch: Path, quick: bool) -> list[Row]:
    """The weights of the losses, on `tiny`'s last block and two fixed views of each picture; caches are empty when it begins."""
    new = class_folders(scratch / "ablation-new", 8, 25, first=20, seed=2)
    base = TrainConfig(
        train_data=class_folders(scratch / "ablation-train", 12, 12),
        val_data=class_folders(scratch / "ablation-val", 8, 12, first=12, seed=1),
        backbone="tiny",
        unfreeze_blocks=1,
        views=2,
        trunk_cache="on",
        epochs=2,
        val_queries=5,
        val_episodes=50,
        workers=0,
        quiet=True,
    )
    seconds: dict[str, list[float]] = {"shared": [], "none": []}
    tables = {}
    previous = os.environ.get("FEWSHOT_CACHE")
    try:
        for _ in range(1 if quick else 2):
            for name in seconds:
                place = scratch / "ablation" / name
                shutil.rmtree(place, ignore_errors=True)
                os.environ["FEWSHOT_CACHE"] = str(place / "cache")
                settings = ("no_cache=true", "trunk_cache=off") if name == "none" else ()
                started = time.perf_counter()
                plan = TestPlan((new,), episodes=50)
                found, _ = run_ablation(
                    load("loss_weights"), base, place, Console(quiet=True), settings=settings, tests=plan
                )
                seconds[name].append(time.perf_counter() - started)
                tables[name] = found.episodes
    finally:
        os.environ.pop("FEWSHOT_CACHE")
        if previous is not None:
            os.environ["FEWSHOT_CACHE"] = previous
    same = "the same accuracies, episode by episode" if tables["shared"].equals(tables["none"]) else "OTHER accuracies"
    ratios = quotients(seconds["none"], seconds["shared"])
    return [
        Row(
            "ablation of five runs, shared caches",
            seconds["shared"],
            seconds["none"],
            "s",
            "without caches",
            ratios,
            BAR,
            note=same,
        )
    ]
