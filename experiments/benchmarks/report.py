"""Rows to JSON and to a Markdown table."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.benchmarks.measure import Row

_HEAD = ("what", "ours", "other side", "ratio", "bar", "reached")


def markdown(rows: Sequence[Row], machine: dict[str, Any]) -> str:
    """A table with medians (and from lowest to highest), the machine below it, then the rows' notes."""
    lines = [" | ".join(("", *_HEAD, "")).strip(), "|" + " --- |" * len(_HEAD)]
    notes = []
    for row in rows:
        bar = "" if row.bar is None else f"{'≤' if row.at_most else '≥'} {row.bar:g}"
        reached = {True: "yes", False: "**no**", None: ""}[row.reached]
        other = f"{_figure(row.other)} {row.unit} ({row.other_name})"
        cells = (row.name, f"{_figure(row.ours)} {row.unit}", other, _figure(row.ratios), bar, reached)
        lines.append("| " + " | ".join(cells) + " |")
        if row.note:
            notes.append(f"- {row.name}: {row.note}")
    told = ", ".join(f"{key}: {value}" for key, value in machine.items())
    return "\n".join([*lines, "", f"Machine: {told}. Medians, with the lowest and highest round.", "", *notes, ""])


def _figure(values: list[float]) -> str:
    """12.3 [11.9-13.0]: median and range; the median alone of one round."""
    middle = _number(statistics.median(values))
    return middle if len(values) < 2 else f"{middle} [{_number(min(values))}–{_number(max(values))}]"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def write(rows: Sequence[Row], machine: dict[str, Any], folder: Path) -> Path:
    """benchmarks.json and benchmarks.md in `folder`; returns the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "machine": machine,
        "rows": [{**dataclasses.asdict(r), "ratio": r.ratio, "reached": r.reached} for r in rows],
    }
    (folder / "benchmarks.json").write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    path = folder / "benchmarks.md"
    path.write_text(markdown(rows, machine), encoding="utf-8")
    return path
