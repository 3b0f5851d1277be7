"""The README's picture, from a finished demo: one task with its answers before and after training, and the accuracy of all.

    python -m experiments.figures DEMO_DIR docs/images/demo.png

The task is not hand-picked: it is the one that looks most like the average of all, before and after, in its accuracy
and in that of the queries shown (the first two of each class).
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tyro

from episodes import (
    Episode,
    ImageTable,
    PairedDifference,
    ScoreResult,
    paired_difference,
    read_predictions,
    read_task_directory,
    score_predictions,
)
from episodes.decoding import read_bytes
from episodes.files import atomic_write
from fewshot.images.transform import Pixels, clip_pixels
from fewshot.report.training import read_metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STAGES = ("before", "after")
EACH = 2  # queries shown of each class
SIDE = 64  # pixels of a character, as the demo draws them
WIDTH, HEIGHT, DPI = 8.0, 3.7, 200  # inches; shown at half its pixels it is 800 wide
GOOD, BAD, INK, SOFT, BEFORE, AFTER = "#17713b", "#b3261e", "#1b2230", "#566074", "#9aa5b8", "#1f5fbf"


@dataclass(frozen=True, eq=False)
class Demo:
    """What a finished demo left behind; `answers[stage][task name, image name]` is a class name."""

    table: ImageTable
    episodes: list[Episode]
    scores: dict[str, ScoreResult]
    answers: dict[str, dict[tuple[str, str], str]]
    difference: PairedDifference
    epochs: int


@dataclass(frozen=True, eq=False)
class Shown:
    """One task and the queries of it that are drawn: rows, labels, and the label that each stage gave."""

    episode: Episode
    rows: list[int]
    labels: list[int]
    given: dict[str, list[int]]


def read_demo(root: str | os.PathLike[str]) -> Demo:
    """Read tasks, truth and both predictions of a finished demo.

    Raises:
        DataError: a part of it is missing or does not fit the others; names it.
    """
    root = Path(root)
    truth = root / "tasks" / "truth.csv"
    table, episodes = read_task_directory(root / "tasks", truth)
    scores = {stage: score_predictions(root / f"{stage}.csv", truth) for stage in STAGES}
    answers = {}
    for stage in STAGES:
        frame = read_predictions(root / f"{stage}.csv")
        answers[stage] = dict(zip(zip(frame["task"], frame["image"], strict=True), frame["label"], strict=True))
    after, before = ([scores[stage].per_task[e.name] for e in episodes] for stage in reversed(STAGES))
    epochs = sum(row.kind == "epoch" for row in read_metrics(root / "checkpoint"))
    return Demo(table, episodes, scores, answers, paired_difference(np.array(after), np.array(before)), epochs)


def choose_task(demo: Demo) -> Shown:
    """The task nearest to the average accuracy of all, before and after, as a whole and in what is shown of it."""

    def distance(shown: Shown) -> float:
        total = 0.0
        for stage in STAGES:
            right = np.mean([given == label for given, label in zip(shown.given[stage], shown.labels, strict=True)])
            mean = demo.scores[stage].accuracy
            total += abs(demo.scores[stage].per_task[shown.episode.name] - mean) + abs(float(right) - mean)
        return total

    return min((_shown(demo, episode) for episode in demo.episodes), key=distance)


def _shown(demo: Demo, episode: Episode) -> Shown:
    assert episode.query_labels is not None  # read with its truth
    picked = sorted(
        i for label in range(len(episode.class_names)) for i in np.flatnonzero(episode.query_labels == label)[:EACH]
    )
    rows = episode.query[picked].tolist()
    numbers = {name: label for label, name in enumerate(episode.class_names)}
    given = {}
    for stage in STAGES:
        names = [demo.answers[stage][episode.name, demo.table.image_name(row)] for row in rows]
        given[stage] = [numbers.get(name, -1) for name in names]  # -1: no answer
    return Shown(episode, rows, episode.query_labels[picked].tolist(), given)


def draw(demo: Demo) -> Figure:
    """Left a task, right the accuracies with their 95 % intervals and chance."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, facecolor="white")
    shown = choose_task(demo)
    _draw_task(figure, demo, shown)
    _draw_accuracy(figure, demo, ways=len(shown.episode.class_names))
    return figure


def _draw_task(figure: Figure, demo: Demo, shown: Shown) -> None:
    episode, columns = shown.episode, len(shown.rows)
    support = [int(episode.support[episode.support_labels == label][0]) for label in range(len(episode.class_names))]
    pictures = {row: _picture(demo.table, row) for row in (*support, *shown.rows)}
    left, right, size = 0.075, 0.665, 0.052
    _text(
        figure,
        0.012,
        0.955,
        f"{len(support)} characters of unseen alphabets, one example of each",
        size=9.5,
        weight="bold",
    )
    step = (right - left) / len(support)
    for label, row in enumerate(support):
        middle = left + (label + 0.5) * step
        _frame(figure, pictures[row], middle, 0.80, 0.072, SOFT)
        alphabet, _, name = episode.class_names[label].partition("-")
        _text(figure, middle, 0.675, f"{alphabet}\n{name.replace('-', ' ')}", size=6.8, colour=SOFT, align="center")
    _text(figure, 0.012, 0.585, "Which of them is each of these?", size=9.5, weight="bold")
    _text(figure, right, 0.585, "answers before and after training", size=8, colour=SOFT, align="right")
    step = (right - left) / columns
    for name, height in (("query", 0.455), ("before", 0.285), ("after", 0.115)):
        _text(figure, 0.012, height, name, size=8.5, colour=INK)
        for column, row in enumerate(shown.rows):
            middle = left + (column + 0.5) * step
            if name == "query":
                _frame(figure, pictures[row], middle, height, size, SOFT)
            else:
                given = shown.given[name][column]
                picture = pictures[support[given]] if given >= 0 else np.full((SIDE, SIDE, 3), 255, np.uint8)
                _answer(figure, picture, middle, height, size, given == shown.labels[column])


def _answer(figure: Figure, picture: Pixels, x: float, y: float, size: float, right: bool) -> None:
    """The example of the class that was answered; right and wrong differ by mark and colour."""
    colour = GOOD if right else BAD
    _frame(figure, picture, x, y, size, colour, width=1.6)
    figure.text(
        x + size / 2 - 0.003, y + size / 2 * WIDTH / HEIGHT - 0.006, "✓" if right else "✗", fontsize=6.5, color="white",
        weight="bold", ha="center", va="center",
        bbox={"boxstyle": "circle,pad=0.16" if right else "square,pad=0.22", "facecolor": colour, "edgecolor": "none"},
    )  # fmt: skip


def _frame(figure: Figure, picture: Pixels, x: float, y: float, size: float, colour: str, width: float = 0.8) -> None:
    """A picture centred at (x, y), `size` of the figure's width wide."""
    height = size * WIDTH / HEIGHT
    axis = figure.add_axes((x - size / 2, y - height / 2, size, height))
    axis.imshow(picture, interpolation="bilinear")
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set(edgecolor=colour, linewidth=width)


def _draw_accuracy(figure: Figure, demo: Demo, ways: int) -> None:
    axis = figure.add_axes((0.745, 0.17, 0.25, 0.64))
    gain, tasks = demo.difference, demo.scores["after"].tasks
    _text(figure, 0.705, 0.955, f"Accuracy on {tasks} such tasks", size=9.5, weight="bold")
    _text(figure, 0.705, 0.885, f"{100 * gain.mean:+.1f} ± {100 * gain.ci95:.1f} points, paired", size=8.5)
    for place, (stage, colour) in enumerate(zip(STAGES, (BEFORE, AFTER), strict=True)):
        mean, half = 100 * demo.scores[stage].accuracy, 100 * demo.scores[stage].ci95
        axis.bar([place], [mean], width=0.7, color=colour)
        axis.errorbar([place], [mean], yerr=[half], color=INK, capsize=4, linewidth=1.2)
        number: Any = {"ha": "center", "va": "bottom", "fontsize": 6.8, "weight": "bold", "color": INK}
        axis.text(place, mean + half + 2, f"{mean:.1f} ± {half:.1f} %", **number)
    axis.axhline(100 / ways, color=BAD, linestyle="--", linewidth=1)
    axis.text(1.42, 100 / ways + 1.5, f"chance\n{100 / ways:.0f} %", va="bottom", fontsize=7.5, color=BAD)
    axis.set(ylim=(0, 100), xlim=(-0.7, 1.95), xticks=[0, 1], yticks=[0, 20, 40, 60, 80, 100])
    axis.set_xticklabels(["before\ntraining", f"after\n{demo.epochs} epochs"], fontsize=8.5)
    axis.tick_params(axis="y", labelsize=7.5, colors=SOFT)
    axis.tick_params(axis="x", length=0)
    axis.spines[["top", "right"]].set_visible(False)


def _text(
    figure: Figure,
    x: float,
    y: float,
    text: str,
    *,
    size: float,
    colour: str = INK,
    weight: str = "normal",
    align: Any = "left",
) -> None:
    figure.text(x, y, text, fontsize=size, color=colour, weight=weight, ha=align, va="center", linespacing=1.15)


def _picture(table: ImageTable, row: int) -> Pixels:
    """(64, 64, 3)."""
    return np.ascontiguousarray(clip_pixels(read_bytes(table.items[row]), SIDE).transpose(1, 2, 0))


def write_demo_figure(demo_dir: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Write the picture as a PNG of few colours: the same demo gives the same bytes.

    Raises:
        DataError: see `read_demo`; or the place cannot be written.
    """
    from PIL import Image

    drawn, small = io.BytesIO(), io.BytesIO()
    draw(read_demo(demo_dir)).savefig(drawn, format="png", metadata={"Software": None})
    Image.open(drawn).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    with atomic_write(path, "wb") as file:
        file.write(small.getvalue())


def main(demo: tyro.conf.Positional[Path], output: tyro.conf.Positional[Path] = Path("docs/images/demo.png")) -> None:
    """Draw the README's picture from the folder of a finished `fewshot demo`."""
    write_demo_figure(demo, output)
    print(f"{output}: {output.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    tyro.cli(main)
