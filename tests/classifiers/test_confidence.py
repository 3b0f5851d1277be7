"""Calibration on validation episodes: the temperature, what it mends, and the threshold for foreign pictures."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from episodes import EpisodeSampler, ImageTable
from fewshot.checkpoint import load_checkpoint
from fewshot.classifiers import INDUCTIVE
from fewshot.classifiers.base import class_statistics
from fewshot.classifiers.confidence import calibrate, leave_last_class_out
from fewshot.commands.cli import main
from fewshot.embedding.embed import Embeddings
from fewshot.training import TrainConfig, train


@pytest.fixture
def blobs() -> tuple[ImageTable, Embeddings]:
    """Fifteen classes of twenty noisy unit vectors."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(15, 16, generator=generator)
    labels = torch.arange(15).repeat_interleave(20)
    features = torch.nn.functional.normalize(centres[labels] + 1.2 * torch.randn(300, 16, generator=generator), dim=-1)
    table = ImageTable(list(range(300)), labels.numpy(), tuple(f"c{i}" for i in range(15)))
    return table, Embeddings(features, torch.ones(300, dtype=torch.bool), {}, 300)


def test_every_inductive_classifier_gets_better_calibrated(blobs: tuple[ImageTable, Embeddings]) -> None:
    table, embeddings = blobs
    statistics = class_statistics(embeddings.features, torch.from_numpy(table.labels.astype(np.int64)))
    found = calibrate(embeddings, table, statistics, seed=0)
    assert tuple(found) == INDUCTIVE
    for name, values in found.items():
        assert values["ece_after"] < 0.06, name
        assert values["ece_after"] <= values["ece_before"] + 0.01, name
        assert np.all(np.diff(values["outsider_confidence"]) >= 0) and values["outsiders"] > 400
    assert {"simpleshot", "gda"}.isdisjoint(calibrate(embeddings, table, None, seed=0))


def test_leaving_the_last_class_out_changes_nothing_else(blobs: tuple[ImageTable, Embeddings]) -> None:
    batch = EpisodeSampler(blobs[0], ways=(3, 6), shots=(1, 4), queries=2, episodes=20).batch(0, 20)
    smaller, outsiders = leave_last_class_out(batch)
    for i in range(20):
        whole, rest = batch.episode(i), smaller.episode(i)
        last = len(whole.class_names) - 1
        assert rest.class_names == whole.class_names[:last]
        assert rest.support.tolist() == whole.support[whole.support_labels < last].tolist()
        assert rest.query.tolist() == whole.query.tolist()
        foreign = whole.query_labels == last
        assert outsiders[i, : len(whole.query)].tolist() == foreign.tolist()
        assert (rest.query_labels[foreign] == -2).all()
        assert (rest.query_labels[~foreign] == whole.query_labels[~foreign]).all()


def test_the_checkpoint_keeps_it_and_predict_uses_it(
    small_run: TrainConfig, vit_file: Path, other_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = dataclasses.replace(small_run, epochs=1, val_episodes=20)
    known = load_checkpoint(train(config).path).calibration["prototype"]
    tasks, sure, plain = tmp_path / "tasks", tmp_path / "sure.csv", tmp_path / "plain.csv"
    assert main(["make-tasks", str(other_folders), str(tasks), "--tasks", "8", "--ways", "4", "--queries", "3"]) == 0
    common = ["predict", str(tasks), "--precision", "32", "--quiet"]
    assert main([*common, str(plain), "--backbone", str(vit_file)]) == 0
    assert "uncalibrated" in capsys.readouterr().out
    assert main([*common, str(sure), "--checkpoint", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "confidence calibrated" in said
    assert all(f"{100 * known[key]:.1f} %" in said for key in ("ece_before", "ece_after"))

    def rows(path: Path) -> list[dict[str, str]]:
        with path.open() as file:
            return list(csv.DictReader(file))

    if not load_checkpoint(tmp_path / "run").tuned:  # then only the temperature differs, and no answer may change
        assert [r["label"] for r in rows(sure)] == [r["label"] for r in rows(plain)]
        assert (known["temperature"] == 1) == (sure.read_bytes() == plain.read_bytes())
    picky = tmp_path / "picky.csv"
    assert main([*common, str(picky), "--checkpoint", str(tmp_path / "run"), "--reject", "0.3"]) == 0
    place = int(np.ceil(0.7 * 200))
    threshold = np.nextafter(known["outsider_confidence"][place], np.inf)
    for a, b in zip(rows(sure), rows(picky), strict=True):
        if abs(float(a["confidence"]) - threshold) > 1e-4:
            assert b["label"] == ("unknown" if float(a["confidence"]) < threshold else a["label"])
    assert main([*common, str(picky), "--backbone", str(vit_file), "--reject", "0.3"]) == 2
    assert main([*common, str(picky), "--checkpoint", str(tmp_path / "run"), "--reject", "3"]) == 2
