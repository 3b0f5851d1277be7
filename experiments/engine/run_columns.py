"""What a finished run says of itself: its costs, what validation said, its settings, and its epochs."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.engine.execute import record_of
from experiments.engine.plan import PlannedRun
from fewshot.run_files import METRICS

_COSTS = ("wall_seconds", "peak_memory_mb", "peak_gpu_memory_mb")
_BY_EPOCH = ("val_accuracy", "val_ci95", "loss", "prototypical_share", "seconds")


def about_run(run: PlannedRun) -> dict[str, Any]:
    """Columns of the results.

    Args:
        run: Finished.

    Returns:
        Costs, what validation said ("val_..."), and every setting ("config....").
    """
    metrics = _metrics(run.folder)
    untouched = next(row for row in metrics if row["kind"] == "untouched")
    decision = [row for row in metrics if row["kind"] == "decision"][-1]
    alpha = float(decision["alpha"])
    mixes = [row for row in metrics if row["kind"] == "wise-ft"]
    kept = max(mixes, key=lambda row: float(row["val_accuracy"])) if alpha else untouched
    record = record_of(run.folder)
    return {
        "seconds": sum(float(row["seconds"]) for row in metrics if row["kind"] == "epoch"),
        **{name: record.get(name, math.nan) for name in _COSTS},
        "val_accuracy": float(kept["val_accuracy"]),
        "val_ci95": float(kept["val_ci95"]),
        "val_episodes": int(kept["val_episodes"]),
        "val_untouched": float(untouched["val_accuracy"]),
        "val_difference": float(decision["difference"]),
        "val_difference_ci95": float(decision["difference_ci95"] or "nan"),
        "kept_alpha": alpha,
        "best_epoch": int(decision["epoch"]),
        **_settings(run.config.to_json()),
    }


def curves(runs: Sequence[PlannedRun]) -> list[dict[str, Any]]:
    """Rows of the curves.

    Args:
        runs: Finished.

    Returns:
        One for each epoch of each, 0 being the untouched encoder.
    """
    rows = []
    for run in runs:
        for row in _metrics(run.folder):
            if row["kind"] in ("untouched", "epoch"):
                numbers = {name: float(row.get(name) or "nan") for name in _BY_EPOCH}
                rows.append({"condition": run.name, "seed": run.seed, "epoch": int(row["epoch"]), **numbers})
    return rows


def _settings(settings: Mapping[str, Any], before: str = "config.") -> dict[str, Any]:
    """One column a setting; lists as text, so that a column has one type."""
    columns: dict[str, Any] = {}
    for name, value in settings.items():
        if name in ("output", "resume", "quiet", "json"):
            continue
        if isinstance(value, Mapping):
            columns |= _settings(value, f"{before}{name}.")
        else:
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            plain = number and name not in ("unfreeze_blocks", "ways", "shots")
            columns[before + name] = value if plain or value is None else str(value)
    return columns


def _metrics(folder: Path) -> list[dict[str, str]]:
    with open(folder / METRICS, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
