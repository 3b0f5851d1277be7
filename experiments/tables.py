"""A table of finished runs: what each gained over the untouched encoder, by the paired difference on validation."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from episodes.errors import DataError


def collect(root: Path) -> pd.DataFrame:
    """One row a finished run below `root`: untouched and best accuracy, and the paired difference, as shares.

    Raises:
        DataError: there is no finished run.
    """
    rows = []
    for path in sorted(root.rglob("metrics.csv")):
        if not (path.parent / "model.safetensors").is_file():
            continue
        metrics = pd.read_csv(path)
        untouched = metrics[metrics["kind"] == "untouched"].iloc[0]
        mixes = metrics[metrics["kind"] == "wise-ft"]
        decision = metrics[metrics["kind"] == "decision"].iloc[-1]
        best = mixes.loc[mixes["val_accuracy"].idxmax()]
        rows.append(
            {
                "run": str(path.parent.relative_to(root)),
                "untouched": untouched["val_accuracy"],
                "untouched_ci95": untouched["val_ci95"],
                "tuned": best["val_accuracy"],
                "tuned_ci95": best["val_ci95"],
                "difference": decision["difference"],
                "difference_ci95": decision["difference_ci95"],
                "kept_alpha": decision["alpha"],
                "episodes": int(untouched["val_episodes"]),
            }
        )
    if not rows:
        raise DataError(f"{root}: no finished run (a folder with metrics.csv and model.safetensors) was found below it")
    return pd.DataFrame(rows)


def to_markdown(table: pd.DataFrame) -> str:
    """The table for people: percent, with 95 % intervals."""
    lines = [
        "| run | untouched | tuned (best mix) | paired difference | kept mix | episodes |",
        "|---|---|---|---|---|---|",
    ]
    for row in table.to_dict("records"):
        cells = [f"{100 * row[k]:.1f} ± {100 * row[f'{k}_ci95']:.1f} %" for k in ("untouched", "tuned")]
        difference = f"{100 * row['difference']:+.2f} ± {100 * row['difference_ci95']:.2f}"
        kept = f"{row['kept_alpha']:g}" if row["kept_alpha"] else "untouched"
        lines.append(f"| {row['run']} | {' | '.join(cells)} | {difference} | {kept} | {row['episodes']} |")
    return "\n".join(lines)
