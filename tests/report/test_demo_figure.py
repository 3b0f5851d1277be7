"""The README's picture shows the numbers of the demo's files, and a task chosen by its stated rule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from episodes import read_task_directory, read_truth, score_predictions, write_predictions
from episodes.errors import DataError
from experiments.figures import SIDE, Shown, choose_task, draw, read_demo, write_demo_figure
from fewshot.images.transform import clip_pixels
from fewshot.predict import Prediction
from fewshot.training.metrics import Metrics


@pytest.fixture
def demo(make_tasks: Callable[..., Path], name_tasks: Callable[..., Prediction], tmp_path: Path) -> Path:
    """A folder as `fewshot demo` leaves it: eight 3-way tasks; after training every third mistake is mended."""
    root = tmp_path / "demo"
    make_tasks(root / "tasks", tasks=8, ways=3, shots=1, queries=4)
    frame = name_tasks(root / "tasks").frame
    write_predictions(frame, root / "before.csv")
    mistakes = frame.index[frame.label != frame.truth]
    frame.loc[mistakes[::3], "label"] = frame.truth[mistakes[::3]]
    frame.loc[mistakes[1], "label"] = ""  # a picture that could not be read
    write_predictions(frame, root / "after.csv")
    (root / "checkpoint").mkdir()
    metrics = Metrics(root / "checkpoint")
    metrics.add("untouched", epoch=0)
    for epoch in (1, 2):
        metrics.add("epoch", epoch=epoch, loss=1.0)
    return root


def test_bars_are_the_scores_of_the_files(demo: Path) -> None:
    figure = draw(read_demo(demo))
    (axis,) = [axis for axis in figure.axes if axis.patches]
    scores = [score_predictions(demo / f"{stage}.csv", demo / "tasks" / "truth.csv") for stage in ("before", "after")]
    bars: Any = axis.patches
    assert [bar.get_height() for bar in bars] == pytest.approx([100 * s.accuracy for s in scores])
    texts = [text.get_text() for text in axis.texts]
    assert texts == [*(f"{100 * s.accuracy:.1f} ± {100 * s.ci95:.1f} %" for s in scores), "chance\n33 %"]
    gains = np.array([scores[1].per_task[name] - scores[0].per_task[name] for name in scores[0].per_task])
    assert any(f"{100 * gains.mean():+.1f} ± " in text.get_text() for text in figure.texts)
    assert [label.get_text() for label in axis.get_xticklabels()] == ["before\ntraining", "after\n2 epochs"]


def test_answers_and_marks_are_those_of_the_files(demo: Path) -> None:
    shown = choose_task(read_demo(demo))
    table, episodes = read_task_directory(demo / "tasks")
    truth = {(row.task, row.image): row.label for row in read_truth(demo / "tasks" / "truth.csv").itertuples()}
    name = shown.episode.name
    assert [np.bincount(shown.labels).tolist(), len(shown.rows)] == [[2, 2, 2], 6]
    for row, label in zip(shown.rows, shown.labels, strict=True):
        assert truth[name, table.image_name(row)] == shown.episode.class_names[label]
    marks = [text.get_text() for text in draw(read_demo(demo)).texts if text.get_text() in "✓✗"]
    given = [*shown.given["before"], *shown.given["after"]]
    assert marks == ["✓" if g == label else "✗" for g, label in zip(given, shown.labels * 2, strict=True)]
    assert name in {episode.name for episode in episodes}


def test_the_task_is_the_nearest_to_the_average(demo: Path) -> None:
    found = read_demo(demo)

    def gap(shown: Shown) -> float:
        gaps = (
            abs(score.per_task[shown.episode.name] - score.accuracy)
            + abs(np.mean(np.array(shown.given[stage]) == np.array(shown.labels)) - score.accuracy)
            for stage, score in found.scores.items()
        )
        return float(sum(gaps))

    gaps = []
    for episode in found.episodes:
        alone = read_demo(demo)
        alone.episodes[:] = [episode]
        gaps.append(gap(choose_task(alone)))
    assert gap(choose_task(found)) == min(gaps) < max(gaps)


def test_the_file_is_small_and_the_same_each_time(demo: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_demo_figure(demo, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").stat().st_size < 120_000
    picture = Image.open(tmp_path / "a.png").convert("RGB")
    assert picture.width == 1600 and picture.getpixel((0, 0)) == (255, 255, 255)


def test_the_examples_are_the_support_pictures(demo: Path) -> None:
    found = read_demo(demo)
    episode = choose_task(found).episode
    drawn: list[Any] = [axis.images[0].get_array() for axis in draw(found).axes if axis.images]
    for row, picture in zip(episode.support, drawn, strict=False):
        expected = clip_pixels(Path(str(found.table.items[row])).read_bytes(), SIDE)
        np.testing.assert_array_equal(picture, expected.transpose(1, 2, 0))


def test_an_unfinished_demo_is_told(demo: Path) -> None:
    (demo / "after.csv").unlink()
    with pytest.raises(DataError, match=r"after\.csv"):
        read_demo(demo)
