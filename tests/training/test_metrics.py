"""A run's numbers as TensorBoard reads them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fewshot.training import TrainConfig, train
from fewshot.training.metrics import Metrics


def shown(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> (step, value) of every event."""
    board = EventAccumulator(str(folder / "tensorboard"))
    board.Reload()
    return {tag: [(event.step, event.value) for event in board.Scalars(tag)] for tag in board.Tags()["scalars"]}


def test_tensorboard_shows_what_metrics_csv_says(small_run: TrainConfig) -> None:
    result = train(small_run)
    with (result.path / "metrics.csv").open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["step"]]
    found = shown(result.path)
    written = {
        name: [(int(row["step"]), float(row[name])) for row in rows if row[name]]
        for name in rows[0]
        if name not in ("kind", "step", "epoch")
    }
    assert found.keys() == {name for name, values in written.items() if values} >= {"val_accuracy", "prototypical_loss"}
    for name, values in found.items():
        assert [step for step, _ in values] == [step for step, _ in written[name]], name
        assert [value for _, value in values] == pytest.approx([value for _, value in written[name]], rel=1e-6), name


def test_what_an_interrupted_part_wrote_is_void(tmp_path: Path) -> None:
    first = Metrics(tmp_path)
    for step in (10, 20, 30):
        first.add("epoch", step=step, val_accuracy=0.5)
    resumed = Metrics(tmp_path, first.rows[:1])
    for step in (20, 30):
        resumed.add("epoch", step=step, val_accuracy=0.75)
    assert shown(tmp_path) == {"val_accuracy": [(10, 0.5), (20, 0.75), (30, 0.75)]}
    anew = Metrics(tmp_path)  # nothing had been saved
    anew.add("untouched", step=0, val_accuracy=0.25)
    assert shown(tmp_path) == {"val_accuracy": [(0, 0.25)]}
