"""The plot of a run shows the numbers of its metrics.csv, and says what was decided."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from episodes.errors import DataError, UsageError
from fewshot.report import plot_training, write_training_plot
from fewshot.report.training import read_metrics, verdict
from fewshot.training.metrics import Metrics
from tests.report.conftest import Page


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """What the training loop writes in three epochs."""
    folder = tmp_path / "run"
    folder.mkdir()
    metrics = Metrics(folder)
    metrics.add("untouched", epoch=0, step=0, val_accuracy=0.5, val_ci95=0.02, val_episodes=300)
    for epoch, accuracy in enumerate((0.55, 0.625, 0.6), start=1):
        metrics.add("epoch", epoch=epoch, step=10 * epoch, loss=5.0 / epoch, prototypical_loss=2.0 / epoch,
                    class_loss=3.0 / epoch, val_accuracy=accuracy, val_ci95=0.01, val_episodes=300)  # fmt: skip
    return folder


def finish(folder: Path, alpha: float) -> None:
    rows = [
        {key: value if key == "kind" else float(value) for key, value in row.items() if value}
        for row in csv.DictReader((folder / "metrics.csv").open(encoding="utf-8"))
    ]
    metrics = Metrics(folder, rows)
    for mix in (0.25, 0.5, 0.75, 1.0):
        metrics.add("wise-ft", epoch=2, alpha=mix, val_accuracy=0.5 + mix / 8, val_ci95=0.01, val_episodes=300)
    metrics.add("decision", epoch=2, alpha=alpha, difference=0.119, difference_ci95=0.012)


def test_the_panels_hold_the_numbers_of_the_file(run_dir: Path) -> None:
    figure = plot_training(run_dir)
    losses, validation = figure.axes
    drawn = {str(line.get_label()): np.asarray(line.get_ydata()) for line in losses.get_lines()}
    np.testing.assert_allclose(drawn["both together"], np.array([5, 2.5, 5 / 3]), rtol=1e-6)
    np.testing.assert_allclose(drawn["residual classifier"], [3, 1.5, 1], rtol=1e-6)
    (container,) = validation.containers
    errors: Any = container
    line, _, (bars,) = errors.lines
    np.testing.assert_allclose(line.get_xydata(), [[1, 55], [2, 62.5], [3, 60]])
    spans = [segment[:, 1] for segment in bars.get_segments()]
    np.testing.assert_allclose(spans, [[54, 56], [61.5, 63.5], [59, 61]])
    untouched = [line for line in validation.get_lines() if line.get_label() == "untouched encoder"]
    np.testing.assert_allclose(np.asarray(untouched[0].get_ydata()), [50, 50])
    assert verdict(read_metrics(run_dir)) == "not finished: 3 epochs so far"


@pytest.mark.parametrize(
    ("alpha", "said"), [(0.75, "kept the tuned encoder of epoch 2, mix 0.75"), (0, "kept the untouched")]
)
def test_a_finished_run_shows_mixes_and_decision(run_dir: Path, alpha: float, said: str) -> None:
    finish(run_dir, alpha)
    figure = plot_training(run_dir)
    assert len(figure.axes) == 3
    text = figure.get_suptitle()
    assert said in text and "+11.9 ± 1.2 points" in text
    labels = figure.axes[2].get_legend_handles_labels()[1]
    assert ("kept" in labels) == (alpha > 0)


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".html"])
def test_files_are_the_same_each_time(run_dir: Path, suffix: str, tmp_path: Path) -> None:
    finish(run_dir, 0.75)
    first, second = (write_training_plot(run_dir, tmp_path / f"{name}{suffix}") for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_png_is_the_default_and_html_holds_the_numbers(run_dir: Path, tmp_path: Path) -> None:
    picture = write_training_plot(run_dir)
    assert picture == run_dir / "training.png" and Image.open(picture).size[0] > 800
    page = Page(write_training_plot(run_dir, tmp_path / "run.html").read_text(encoding="utf-8"))
    (image,) = page.all("img")
    assert image.attributes["src"].startswith("data:image/png;base64,") and image.attributes["alt"]
    assert not page.all("script") and "0.625" in page.text and "not finished" in page.text


def test_errors_name_the_file_and_what_to_do(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"metrics.csv.*fewshot train"):
        plot_training(tmp_path)
    with pytest.raises(UsageError, match=r"\.png, \.svg"):
        write_training_plot(run_dir, tmp_path / "plot.bmp")
    (run_dir / "metrics.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(DataError, match="no column"):
        read_metrics(run_dir)
    (tmp_path / "new").mkdir()
    Metrics(tmp_path / "new").write()
    with pytest.raises(DataError, match="no rows"):
        read_metrics(tmp_path / "new")
