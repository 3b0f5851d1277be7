"""Training-class statistics: those of a folder against numpy, and those that tiny ships with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from episodes import DataError, read_class_folders
from fewshot.classifiers.statistics import select_rows, shipped_statistics, statistics_of_folder
from fewshot.embedding.embed import embed_images
from fewshot.encoders import load_encoder


def test_statistics_of_a_folder_are_numpys(vit_file: Path, class_folders: Path) -> None:
    encoder = load_encoder(str(vit_file))
    found = statistics_of_folder(encoder, class_folders, precision="32")
    table = read_class_folders(class_folders)
    features = embed_images(encoder, table.items, precision="32").features.numpy().astype(np.float64)
    means = np.stack([features[table.labels == c].mean(0) for c in range(12)])[table.labels]
    assert found.count == len(table)
    assert np.allclose(found.mean.numpy(), features.mean(0), atol=1e-6)
    assert np.allclose(found.covariance.numpy(), np.cov((features - means).T, bias=True), atol=1e-6)


def test_a_folder_of_which_nothing_can_be_read_is_named(vit_file: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=f"{tmp_path}: no labelled picture .*give class folders"):
        statistics_of_folder(load_encoder(str(vit_file)), tmp_path)


def test_rows_are_seeded_and_bounded(class_folders: Path) -> None:
    table = read_class_folders(class_folders)
    assert select_rows(table, 0) == list(range(len(table)))
    some = select_rows(table, 0, most=30)
    assert len(set(some)) == 30 and some == sorted(some) == select_rows(table, 0, most=30)
    assert some != select_rows(table, 1, most=30)


def test_tiny_ships_with_statistics_of_its_own_width() -> None:
    statistics = shipped_statistics("tiny")
    assert statistics is not None and statistics.count == 10_000
    width = load_encoder("tiny").embed_dim
    assert statistics.mean.shape == (width,) and statistics.covariance.shape == (width, width)
    eigenvalues = np.linalg.eigvalsh(statistics.covariance.double().numpy())
    assert eigenvalues.min() > -1e-7  # a covariance
    # Unit-norm embeddings: the squared mean, the spread between classes and that within them add up to 1.
    assert 0 < float(statistics.covariance.trace()) + float(statistics.mean.square().sum()) < 1
    assert shipped_statistics("ViT-B/32") is None
