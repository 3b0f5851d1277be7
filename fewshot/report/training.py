"""How a training run went, from its metrics.csv: losses, validation accuracy with intervals, and what was kept."""

from __future__ import annotations

import base64
import csv
import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from episodes.errors import DataError, UsageError
from episodes.files import atomic_write, display_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _ORANGE, _GREEN, _GREY = "#1f5fbf", "#d55e00", "#17713b", "#566074"
_NEEDED = ("kind", "epoch", "loss", "alpha", "val_accuracy", "val_ci95", "difference", "difference_ci95")
SUFFIXES = (".png", ".svg", ".pdf", ".html")


@dataclass(frozen=True)
class Row:
    """One row of metrics.csv: its kind and its numbers; NaN where a cell is empty."""

    kind: str
    numbers: dict[str, float]

    def __getitem__(self, column: str) -> float:
        return self.numbers.get(column, math.nan)


def read_metrics(run_dir: str | os.PathLike[str]) -> list[Row]:
    """The rows of `<run_dir>/metrics.csv`.

    Raises:
        DataError: it is not there, is something else, or has no rows.
    """
    path = Path(run_dir) / "metrics.csv"
    shown = display_name(str(path))
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = sorted(set(_NEEDED) - set(reader.fieldnames or ()))
            if missing:
                raise DataError(f"{shown}: expected the metrics of a training run, found no column {missing[0]!r}")
            rows = [_row(cells) for cells in reader]
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"cannot read {shown}: {error}; expected a folder that 'fewshot train' made") from error
    if not rows:
        raise DataError(f"{shown} holds no rows yet: the run has measured nothing so far; wait for its first epoch")
    return rows


def _row(cells: dict[str, Any]) -> Row:
    return Row(
        str(cells["kind"]), {key: float(cell) if cell else math.nan for key, cell in cells.items() if key != "kind"}
    )


def plot_training(run_dir: str | os.PathLike[str]) -> Figure:
    """Losses by epoch, validation accuracy by epoch beside the untouched encoder, and the mixes of old and new weights.

    Raises:
        DataError: see `read_metrics`.
    """
    from fewshot.report.figure import ShownFigure

    rows = read_metrics(run_dir)
    kinds = {kind: [row for row in rows if row.kind == kind] for kind in ("untouched", "epoch", "wise-ft", "decision")}
    panels = 3 if kinds["wise-ft"] else 2
    figure = ShownFigure(figsize=(4.3 * panels, 3.7), dpi=130, facecolor="white", layout="constrained")
    axes = [figure.add_subplot(1, panels, i + 1) for i in range(panels)]
    _plot_losses(axes[0], kinds["epoch"])
    _plot_validation(axes[1], kinds["epoch"], kinds["untouched"], kinds["decision"])
    if kinds["wise-ft"]:
        _plot_mixes(axes[2], kinds["wise-ft"], kinds["untouched"], kinds["decision"])
    for axis in axes:
        axis.grid(axis="y", color="#d9dde4", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(verdict(rows), fontsize=10.5)
    return figure


def verdict(rows: Sequence[Row]) -> str:
    """What the run decided, in one line."""
    decided = [row for row in rows if row.kind == "decision"]
    if not decided:
        epochs = sum(row.kind == "epoch" for row in rows)
        return f"not finished: {epochs} {'epoch' if epochs == 1 else 'epochs'} so far"
    last = decided[-1]
    width = last["difference_ci95"]
    sure = (
        f" ± {100 * width:.1f} points over validation classes"
        if width == width
        else " points; too few classes to be sure"
    )
    gain = f"{100 * last['difference']:+.1f}{sure}"
    if last["alpha"] == 0:
        return f"kept the untouched encoder: tuning is not surely better ({gain})"
    return f"kept the tuned encoder of epoch {last['epoch']:.0f}, mix {last['alpha']:.2f} ({gain})"


def _plot_losses(axis: Axes, epochs: Sequence[Row]) -> None:
    x = [row["epoch"] for row in epochs]
    drawn = (
        ("loss", "both together", _GREY, "-"),
        ("prototypical_loss", "prototypical", _BLUE, "--"),
        ("class_loss", "residual classifier", _ORANGE, ":"),
    )
    for column, label, colour, line in drawn:
        y = [row[column] for row in epochs]
        if any(value == value for value in y):
            axis.plot(x, y, line, color=colour, label=label, marker="o", markersize=3, linewidth=1.6)
    axis.set(title="Training loss", xlabel="epoch")
    axis.title.set_fontsize(11)
    axis.set_ylim(bottom=0)
    _whole_epochs(axis)
    if epochs:
        _legend_below(axis)


def _plot_validation(axis: Axes, epochs: Sequence[Row], untouched: Sequence[Row], decided: Sequence[Row]) -> None:
    _reference(axis, untouched)
    x, y = [row["epoch"] for row in epochs], [100 * row["val_accuracy"] for row in epochs]
    half = [100 * row["val_ci95"] for row in epochs]
    axis.errorbar(x, y, yerr=half, color=_BLUE, marker="o", markersize=4, capsize=3, linewidth=1.6, label="tuned")
    for row in epochs:
        if decided and row["epoch"] == decided[-1]["epoch"]:
            place = (row["epoch"], 100 * row["val_accuracy"])
            axis.plot(*place, marker="*", markersize=13, color=_GREEN, linestyle="none", label="best epoch", zorder=5)
    axis.set(title="Validation accuracy (%), 95 % intervals", xlabel="epoch")
    axis.title.set_fontsize(11)
    _whole_epochs(axis)
    _legend_below(axis)


def _plot_mixes(axis: Axes, mixes: Sequence[Row], untouched: Sequence[Row], decided: Sequence[Row]) -> None:
    _reference(axis, untouched)
    for row in mixes:
        kept = bool(decided) and row["alpha"] == decided[-1]["alpha"]
        axis.errorbar(
            [row["alpha"]], [100 * row["val_accuracy"]], yerr=[100 * row["val_ci95"]], capsize=3, linestyle="none",
            color=_GREEN if kept else _BLUE, marker="*" if kept else "o", markersize=13 if kept else 5,
            label="kept" if kept else None,
        )  # fmt: skip
    axis.set(title="Mixes of old and new weights", xlabel="share of the tuned weights (WiSE-FT α)")
    axis.title.set_fontsize(11)
    axis.set_xlim(-0.05, 1.08)
    _legend_below(axis)


def _reference(axis: Axes, untouched: Sequence[Row]) -> None:
    """The untouched encoder as a line with its interval."""
    for row in untouched[:1]:
        level, half = 100 * row["val_accuracy"], 100 * row["val_ci95"]
        axis.axhspan(level - half, level + half, color=_GREY, alpha=0.15, linewidth=0)
        axis.axhline(level, color=_GREY, linestyle="--", linewidth=1.4, label="untouched encoder")


def _whole_epochs(axis: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def _legend_below(axis: Axes) -> None:
    """Below the plot, where it hides no line."""
    axis.legend(frameon=False, fontsize=8.5, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=3)


def write_training_plot(run_dir: str | os.PathLike[str], path: str | os.PathLike[str] | None = None) -> Path:
    """Write the plot as PNG, SVG, PDF or a self-contained HTML page with the table of numbers; returns where it is.

    Args:
        run_dir: the folder of a run, finished or not.
        path: the suffix says which; `<run_dir>/training.png` by default. The same metrics give the same bytes.

    Raises:
        DataError: see `read_metrics`; or the place cannot be written.
        UsageError: another suffix.
    """
    target = Path(path) if path is not None else Path(run_dir) / "training.png"
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{display_name(str(target))}: a plot ends in one of {', '.join(SUFFIXES)}")
    if suffix == ".html":
        content = _page(run_dir).encode("utf-8")
    else:
        content = _drawn(plot_training(run_dir), suffix[1:])
    with atomic_write(target, "wb") as file:
        file.write(content)
    return target


def _drawn(figure: Figure, kind: str) -> bytes:
    """The figure without the date and version that matplotlib would put into it."""
    import matplotlib

    left_out = {"png": ("Software",), "svg": ("Date", "Creator"), "pdf": ("CreationDate", "Creator", "Producer")}[kind]
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "fewshot"}):
        figure.savefig(buffer, format=kind, metadata=dict.fromkeys(left_out))
    return buffer.getvalue()


def _page(run_dir: str | os.PathLike[str]) -> str:
    from fewshot.report.page import render

    rows = read_metrics(run_dir)
    picture = base64.b64encode(_drawn(plot_training(run_dir), "png")).decode("ascii")
    columns = [name for name in rows[0].numbers if any(row[name] == row[name] for row in rows)]
    return render(
        "training.html",
        name=display_name(os.path.basename(os.path.abspath(run_dir))),
        verdict=verdict(rows),
        picture=f"data:image/png;base64,{picture}",
        columns=columns,
        rows=[(row.kind, [f"{row[name]:.6g}" if row[name] == row[name] else "" for name in columns]) for row in rows],
    )
