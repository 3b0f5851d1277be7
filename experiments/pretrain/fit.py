"""The loop around the steps: to the end of the budget, with a curve in CSV and checkpoints on the way."""

from __future__ import annotations

import csv
import time
from math import nan
from pathlib import Path
from statistics import fmean

import torch

from experiments.pretrain import schedule
from experiments.pretrain.data import Pictures
from experiments.pretrain.measure import embed, ncm_accuracy
from experiments.pretrain.train import Run


def fit(run: Run, output: Path, validation: Pictures, every: float = 300.0) -> None:
    """Train to the end of the budget; every ``every`` seconds, and at the end, write the curve and a checkpoint."""
    threads = torch.get_num_threads()
    if run.settings.shards > 1:
        torch.set_num_threads(1)  # also what compiled code is made for
    try:
        _fit(run, output, validation, every)
    finally:
        torch.set_num_threads(threads)


def _fit(run: Run, output: Path, validation: Pictures, every: float) -> None:
    start = last = time.monotonic()
    minutes = run.settings.minutes
    total = max(1, round(run.settings.epochs * run.steps_an_epoch))
    seen: list[dict[str, float]] = []
    while run.budget.share < 1:
        began = time.monotonic()
        seen.append(run.train_step())
        now = time.monotonic()
        if minutes is None:
            run.budget.by_steps(total)
        else:
            run.budget.by_clock(now - began, start + 60 * minutes - now)
        if now - last >= every or run.budget.share >= 1:
            record(run, output, validation, now - start, seen)
            run.save(output / "checkpoint.pt")
            seen, last = [], time.monotonic()


def record(run: Run, output: Path, validation: Pictures, seconds: float, seen: list[dict[str, float]]) -> None:
    """Append a line to curve.csv, whose lines may be of a run with other losses.

    Losses since the last line, and the averaged weights' accuracy.
    """
    size = schedule.picture_size(min(run.budget.share, 0.999))
    features = embed(run.average, validation.pixels, size, run.dtype)
    names = ("photos", "characters", "text", "views")
    accuracy = {shots: ncm_accuracy(features, validation.labels, shots)[0] for shots in (1, 5)}
    line = {
        "seconds": round(seconds),
        "step": run.step,
        "epoch": round(run.step / run.steps_an_epoch, 2),
        "share": round(run.budget.share, 4),
        "size": size,
        "rate": round(schedule.rate(run.budget.share), 5),
        **{f"loss_{name}": round(fmean([part[name] for part in seen if name in part] or [nan]), 4) for name in names},
        **{f"val_5way_{shots}shot": round(value, 4) for shots, value in accuracy.items()},
    }
    path = output / "curve.csv"
    earlier: list[dict[str, str]] = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as stream:
            earlier = list(csv.DictReader(stream))
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(line), extrasaction="ignore")
        writer.writeheader()
        writer.writerows([*earlier, line])
    print(" ".join(f"{name}={value}" for name, value in line.items()), flush=True)
