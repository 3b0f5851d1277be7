"""Plots as functions: each returns a matplotlib figure, which a notebook shows and `savefig` writes.

`fewshot.report.plot_training` draws a run; these draw an episode, confidence against truth, and accuracy by shots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from episodes import Episode, ImageTable, Results
from episodes.decoding import UnreadableImage, read_bytes
from episodes.errors import DataError
from fewshot.images.transform import clip_pixels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _GREY = "#1f5fbf", "#566074"
_SIDE = 112  # pixels of a picture
_MOST_CLASSES, _MOST_PICTURES = 10, 5


def plot_episode(table: ImageTable, episode: Episode) -> Figure:
    """The support and query pictures of an episode, a line a class; at most ten classes and five pictures of each kind.

    Queries whose class is hidden stand in the lines in their order.

    Args:
        table: that the episode's rows are of.
        episode: what to show.
    """
    from fewshot.report.figure import ShownFigure

    names = episode.class_names[:_MOST_CLASSES] or ("no class",)
    support = [episode.support[episode.support_labels == i] for i in range(len(names))]
    if episode.query_labels is None:
        query = np.array_split(episode.query, len(names))
    else:
        query = [episode.query[episode.query_labels == i] for i in range(len(names))]
    wide = [max(1, min(_MOST_PICTURES, max(map(len, side)))) for side in (support, query)]
    figure = ShownFigure(figsize=(1.1 * (sum(wide) + 1), 1.1 * len(names) + 0.4), dpi=100, facecolor="white")
    grid = figure.add_gridspec(len(names), sum(wide) + 1, wspace=0.05, hspace=0.15)
    for i, name in enumerate(names):
        for first, rows, width in ((0, support[i], wide[0]), (wide[0] + 1, query[i], wide[1])):
            for column, row in enumerate(rows[:width].tolist()):
                _show(figure.add_subplot(grid[i, first + column]), table, row)
        figure.text(0.01, 1 - (i + 0.5) / len(names) * 0.77 - 0.115, name, ha="left", va="center", fontsize=8)
    figure.suptitle(f"{episode.name}: support, and query after the gap", fontsize=9)
    return figure


def _show(axes: Axes, table: ImageTable, row: int) -> None:
    axes.set_axis_off()
    try:
        axes.imshow(clip_pixels(read_bytes(table.items[row]), _SIDE).transpose(1, 2, 0))
    except UnreadableImage:
        axes.text(0.5, 0.5, "cannot\nbe read", ha="center", va="center", fontsize=7)


def plot_reliability(results: Results, bins: int = 10) -> Figure:
    """How often answers of each confidence are right: on the dashed line, confidence is what it says.

    Args:
        results: of episodes whose truth is known.
        bins: of equal width, from 0 to 1.

    Raises:
        DataError: no answer has a known truth.
    """
    from fewshot.report.figure import ShownFigure

    known = (results.truth != -1) & (results.predicted >= 0)
    if not known.any():
        raise DataError("no answer has a known truth; evaluate episodes whose query labels are known")
    sure, right = results.confidence[known].astype(float), (results.predicted == results.truth)[known]
    place = np.minimum((sure * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    filled = count > 0
    mean = [np.bincount(place, values, minlength=bins)[filled] / count[filled] for values in (sure, right)]
    figure = ShownFigure(figsize=(4.3, 4), dpi=130, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], "--", color=_GREY, linewidth=1)
    axes.plot(mean[0], mean[1], "-o", color=_BLUE, markersize=4)
    for x, y, n in zip(*mean, count[filled], strict=True):
        axes.annotate(f"{n:,}", (x, y), textcoords="offset points", xytext=(4, -9), fontsize=7, color=_GREY)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share of right answers", title="Reliability")
    return figure


def plot_shots(curves: Mapping[str, Sequence[tuple[int, Results]]]) -> Figure:
    """Accuracy by shots with its 95 % interval, a line for each name.

    Args:
        curves: such as {"prototype": [(1, results), (5, results)]}.

    Raises:
        DataError: there is nothing to draw.
    """
    from fewshot.report.figure import ShownFigure

    if not any(len(points) for points in curves.values()):
        raise DataError("there is nothing to draw: give at least one (shots, results)")
    figure = ShownFigure(figsize=(4.8, 3.8), dpi=130, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    for name, points in curves.items():
        ordered = sorted(points, key=lambda point: point[0])
        shots = [shot for shot, _ in ordered]
        means, widths = (
            [100 * value for value in values] for values in zip(*((r.mean, r.ci95) for _, r in ordered), strict=True)
        )
        axes.errorbar(shots, means, yerr=np.nan_to_num(widths), marker="o", markersize=4, capsize=3, label=name)
    axes.set(xlabel="shots", ylabel="accuracy, %, with its 95 % interval")
    axes.grid(axis="y", color="#d9dde4", linewidth=0.8)
    axes.legend(fontsize=8)
    return figure
