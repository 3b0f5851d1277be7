"""The last step of making tiny: a fine-tuned encoder in the first stage's file, and the tables."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from episodes.errors import DataError
from experiments.finish_tiny import Options, finish, main
from experiments.pretrain import export
from experiments.pretrain.model import Shape, make_clip
from fewshot.checkpoint import load_checkpoint
from fewshot.classifiers.base import Statistics
from fewshot.embedding.embed import embed_images
from fewshot.encoders import load_encoder
from fewshot.images.augmentation import Augmentation
from fewshot.training import TrainConfig, train
from tests.conftest import write_pictures

pytestmark = pytest.mark.slow  # the making of `tiny`, a minute that changes rarely

SHAPE = Shape(image=64, patch=16, width=64, layers=2, embed=32, text_width=64, text_layers=1)


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    path = tmp_path / "stage.safetensors"
    export.write(make_clip(SHAPE, 5, 3), torch.tensor([0, 7, 9, 49406, 49407]), path)
    return path


@pytest.fixture
def settings(small_run: TrainConfig, stage: Path) -> TrainConfig:
    return learning(replace(small_run, backbone=str(stage)))


def learning(settings: TrainConfig) -> TrainConfig:
    """Trained and validated on the same classes, a random encoder gets better; so few classes cannot be sure, so it is kept as asked."""
    same = Augmentation(crop_scale=(1.0, 1.0), flip=0.0, colour=0.0)
    return replace(
        settings,
        val_data=settings.train_data,
        unfreeze_blocks="all",
        epochs=8,
        augmentation=same,
        val_episodes=200,
        mix=1.0,
    )


def test_what_was_tuned_ships_with_the_text_side_as_it_was(settings: TrainConfig, stage: Path, tmp_path: Path) -> None:
    train(settings)
    assert settings.output is not None
    tuned = load_checkpoint(settings.output)
    assert tuned.tuned
    data, weights = tmp_path / "data", tmp_path / "tiny.safetensors"
    with pytest.raises(DataError, match="expected tin/val"):
        main(Options(settings.output, stage, weights, data=data))
    other = tmp_path / "other.safetensors"
    export.write(make_clip(SHAPE, 5, 4), torch.tensor([0, 7, 9, 49406, 49407]), other)
    with pytest.raises(DataError, match="did not begin with"):
        main(Options(settings.output, other, weights))
    assert not weights.exists()
    write_pictures(data / "tin/base", 3, 8, seed=5, offset=60)
    write_pictures(data / "tin/val", 6, 11, seed=3, offset=40)
    write_pictures(data / "tin/novel", 5, 11, seed=4, offset=50)
    main(Options(settings.output, stage, weights, data=data, episodes=20))
    before, after = load_file(stage), load_file(weights)
    assert before.keys() == after.keys()
    for name, value in after.items():
        expected = tuned.encoder.state_dict()[name].half() if name.startswith("visual.") else before[name]
        assert torch.equal(value, expected), name
    assert not torch.equal(before["visual.proj"], after["visual.proj"])
    x = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(load_encoder(str(weights))(x), tuned.encoder(x), atol=5e-3, rtol=0)  # float16 weights
    statistics = Statistics.from_tensors(load_file(tmp_path / "statistics.safetensors"))
    features = embed_images(
        load_encoder(str(weights)), sorted((data / "tin/base").rglob("*.png")), precision="32"
    ).features
    assert statistics is not None
    torch.testing.assert_close(statistics.mean, features.mean(0), atol=1e-5, rtol=0)
    with (settings.output / "table.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["encoder"] for row in rows} == {"tiny", "before", "untrained", "raw pixels"}
    assert {row["data"] for row in rows if row["shots"] == "1"} == {"tin val", "tin novel"}


def test_an_encoder_that_validation_did_not_keep_is_refused(settings: TrainConfig, stage: Path, tmp_path: Path) -> None:
    train(replace(settings, visual_lr=0.0, epochs=1, mix=None))
    assert settings.output is not None
    with pytest.raises(DataError, match="kept the untouched encoder"):
        finish(settings.output, stage, tmp_path / "tiny.safetensors")
    assert not (tmp_path / "tiny.safetensors").exists()


def test_a_run_of_another_network_is_refused(
    small_run: TrainConfig, vit_file: Path, stage: Path, tmp_path: Path
) -> None:
    train(learning(small_run))
    assert small_run.output is not None and load_checkpoint(small_run.output).tuned
    with pytest.raises(DataError, match="not of the shape"):
        finish(small_run.output, stage, tmp_path / "tiny.safetensors")
