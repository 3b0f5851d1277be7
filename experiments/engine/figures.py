"""The figures of a report: curves over training, paired differences with intervals, accuracy against cost; each with its numbers.

Colours are Okabe and Ito's, which colour-blind people tell apart; what a colour says is said by a label too.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any

import pandas as pd

from experiments.engine.pairing import ALL_SETS
from experiments.engine.results import Findings
from experiments.engine.text import mean_accuracy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5cc2", "#8a8f00")
INK, SOFT = "#1b2230", "#566074"
STYLE = {
    "font.size": 10,
    "axes.edgecolor": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#d9dde4",
    "grid.linewidth": 0.6,
    "svg.hashsalt": "fewshot",  # the same numbers give the same file
    "svg.fonttype": "none",
}


@dataclass(frozen=True, eq=False)
class Drawing:
    """One figure and what it shows.

    Attributes:
        name: Of its files.
        caption: What people should see in it.
        png, svg: The files.
        numbers: Behind it.
    """

    name: str
    caption: str
    png: bytes
    svg: bytes
    numbers: pd.DataFrame


def drawings(findings: Findings) -> list[Drawing]:
    """Every figure for which there is something to draw.

    Args:
        findings: Of an ablation.

    Returns:
        In the order of a report.
    """
    makers: tuple[Callable[[Findings], Drawing | None], ...] = (_differences, _cost, _curves)
    return [drawing for maker in makers if (drawing := maker(findings)) is not None]


def _drawing(
    name: str, caption: str, numbers: pd.DataFrame, size: tuple[float, float], draw: Callable[[Axes], None]
) -> Drawing:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        return Drawing(name, caption, _saved(figure, "png"), _saved(figure, "svg"), numbers)


def _saved(figure: Figure, kind: str) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=180, metadata={"Date": None} if kind == "svg" else {"Software": None})
    return file.getvalue()


def _differences(findings: Findings) -> Drawing | None:
    """Each pair's difference on the mean of the sets, by shots."""
    table = findings.comparisons
    where = ALL_SETS if (table["set"] == ALL_SETS).any() else "by set"
    numbers = table[table["family"].str.endswith(where)].reset_index(drop=True)
    if numbers.empty:
        return None
    untouched = set(findings.note["untouched"])
    lone = len(untouched) == 1

    def label(row: dict[str, Any]) -> str:
        return f"{row['a']} − {'untouched' if row['b'] in untouched and lone else row['b']}"

    labels = list(dict.fromkeys(label(row) for row in numbers.to_dict("records")))
    kinds = list(dict.fromkeys(zip(numbers["set"], numbers["shots"], strict=True)))

    def draw(axes: Axes) -> None:
        for place, ((name, shots), colour) in enumerate(zip(kinds, cycle(COLOURS), strict=False)):
            part = numbers[
                (numbers["set"] == name) & (numbers["shots"].eq(shots) | (numbers["shots"].isna() & (shots != shots)))
            ]
            shift = (place - (len(kinds) - 1) / 2) * 0.6 / len(kinds)
            for row in part.to_dict("records"):
                y = labels.index(label(row)) + shift
                axes.errorbar(
                    100 * row["difference"], y, xerr=100 * row["ci95"], fmt="o", color=colour, capsize=2.5, markersize=5,
                    markerfacecolor=colour if row["real"] else "white",
                )  # fmt: skip
            axes.plot(
                [],
                [],
                "o",
                color=colour,
                label=_kind(name, shots, len(findings.note["sets"]) > 1 and where != ALL_SETS),
            )
        axes.axvline(0, color=INK, linewidth=1)
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_xlabel("difference, points of accuracy (filled: real after Holm's correction)")
        axes.grid(axis="y", visible=False)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(kinds), frameon=False, fontsize=9)

    caption = "Paired differences on the same episodes, with the 95 % interval of seeds and episodes together"
    return _drawing("differences", caption, numbers, (8, 1.2 + 0.34 * len(labels)), draw)


def _kind(where: str, shots: Any, several: bool) -> str:
    told = "" if shots is None or shots != shots else f"{int(shots)} shot{'' if shots == 1 else 's'}"
    return " ".join(part for part in (where if several or not told else "", told) if part)


def _cost(findings: Findings) -> Drawing | None:
    """Mean accuracy of every condition against the seconds its training took."""
    results = findings.results[findings.results["run"] != "untouched"]
    means = mean_accuracy(findings)
    numbers = (
        results.groupby("condition", sort=False)[["seconds", "wall_seconds", "peak_memory_mb"]]
        .mean()
        .assign(accuracy=means)
        .reset_index()
    )
    if numbers["seconds"].isna().all():
        return None

    def draw(axes: Axes) -> None:
        for row, colour, marker in zip(numbers.to_dict("records"), cycle(COLOURS), _markers(), strict=False):
            axes.plot(row["seconds"], 100 * row["accuracy"], marker, color=colour, markersize=8, label=row["condition"])
        for name in findings.note["untouched"]:
            axes.axhline(100 * means[name], color=SOFT, linestyle="--", linewidth=1)
            axes.text(
                1.0,
                100 * means[name],
                f" {name}",
                color=SOFT,
                va="center",
                transform=axes.get_yaxis_transform(),
                fontsize=9,
            )
        axes.set_xlim(0, 1.08 * numbers["seconds"].max())
        axes.set_xlabel("seconds of training, mean over seeds")
        axes.set_ylabel("accuracy, %, mean of sets and shots")
        axes.legend(loc="upper left", bbox_to_anchor=(1.12, 1.0), fontsize=9, frameon=False)

    return _drawing("cost", "Accuracy against what training took", numbers, (8, 3.8), draw)


def _curves(findings: Findings) -> Drawing | None:
    """Validation accuracy by epoch, with a band from the lowest seed to the highest."""
    grouped = findings.curves.groupby(["condition", "epoch"], sort=False)["val_accuracy"]
    numbers = grouped.agg(["mean", "min", "max", "count"]).reset_index()
    if numbers["epoch"].nunique() < 2:
        return None
    from matplotlib.ticker import MaxNLocator

    def draw(axes: Axes) -> None:
        for (name, part), colour, marker in zip(
            numbers.groupby("condition", sort=False), cycle(COLOURS), _markers(), strict=False
        ):
            axes.plot(
                part["epoch"], 100 * part["mean"], f"-{marker}", color=colour, label=name, markersize=4, linewidth=1.6
            )
            axes.fill_between(
                part["epoch"], 100 * part["min"], 100 * part["max"], color=colour, alpha=0.15, linewidth=0
            )
        axes.set_xlabel("epoch (0 is the untouched encoder)")
        axes.set_ylabel("validation accuracy, %")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), fontsize=9, frameon=False)

    caption = "Validation accuracy, which selects, by epoch; bands from the lowest seed to the highest"
    return _drawing("curves_over_training", caption, numbers, (8, 3.8), draw)


def _markers() -> Iterator[str]:
    return (mark for mark in "osD^vPX*" * 20)
