"""Whole training runs on a small real encoder: what they write, that they resume exactly, and what they refuse."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from episodes import EpisodeSampler, evaluate, read_class_folders
from episodes.errors import DataError, UsageError
from fewshot.checkpoint import load_checkpoint
from fewshot.classifiers.prototype import Prototype
from fewshot.classifiers.scoring import FeatureScorer
from fewshot.console import Console
from fewshot.embedding.embed import embed_images
from fewshot.encoders import load_encoder
from fewshot.images.augmentation import Augmentation
from fewshot.tensors import load_tensors
from fewshot.training import TrainConfig, train
from fewshot.training.metrics import TIME_COLUMNS
from tests.conftest import write_pictures


@pytest.fixture
def config(small_run: TrainConfig) -> TrainConfig:
    return small_run


def metrics(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in TIME_COLUMNS} for row in csv.DictReader(file)]


class Killed(Exception):
    """Stands for a process that dies."""


class KillingConsole(Console):
    """Raises at the line that announces an epoch."""

    def __init__(self, at: str) -> None:
        super().__init__(quiet=True)
        self._at = at

    def line(self, text: str) -> None:
        if text.startswith(self._at):
            raise Killed


def test_a_run_writes_a_checkpoint_that_stands_alone(config: TrainConfig) -> None:
    result = train(config)
    assert sorted(p.name for p in result.path.iterdir() if p.is_file()) == [
        "config.json",
        "metrics.csv",
        "model.safetensors",
    ]
    kinds = [row["kind"] for row in metrics(result.path)]
    assert kinds == ["untouched", "epoch", "epoch", "wise-ft", "wise-ft", "wise-ft", "wise-ft", "decision"]
    loaded = load_checkpoint(result.path)
    untouched = load_encoder(config.backbone)
    assert loaded.untouched_encoder().fingerprint == untouched.fingerprint
    assert (loaded.encoder.fingerprint != untouched.fingerprint) == loaded.tuned == (result.alpha > 0)
    assert len(loaded.class_names) == 12
    # The numbers in metrics.csv are those that anyone gets from the checkpoint with the public functions.
    row = metrics(result.path)[0]
    table = read_class_folders(config.val_data)
    got = embed_images(untouched, table.items, precision="32")
    from fewshot.training.validation import Validation

    episodes = Validation(table, config, 1, None).episodes()
    assert isinstance(episodes, EpisodeSampler) and (episodes.ways, episodes.queries) == ((5, 5), 4)
    mean = evaluate(episodes, FeatureScorer(got, Prototype())).mean
    assert float(row["val_accuracy"]) == pytest.approx(mean, abs=1e-7)


def test_statistics_of_the_training_classes_are_stored(config: TrainConfig) -> None:
    loaded = load_checkpoint(train(config).path)
    table = read_class_folders(config.train_data)
    for encoder, statistics in (
        (loaded.encoder, loaded.statistics),
        (loaded.untouched_encoder(), loaded.original_statistics),
    ):
        features = embed_images(encoder, table.items, precision="32").features.numpy().astype(np.float64)
        assert statistics is not None and statistics.count == len(table)
        assert np.allclose(statistics.mean.numpy(), features.mean(0), atol=1e-6)
        means = np.stack([features[table.labels == c].mean(0) for c in range(12)])[table.labels]
        assert np.allclose(statistics.covariance.numpy(), np.cov((features - means).T, bias=True), atol=1e-6)


@pytest.mark.parametrize("chooses", [True, False])
def test_the_mix_and_the_decision_follow_from_the_numbers(config: TrainConfig, chooses: bool) -> None:
    result = train(dataclasses.replace(config, val_ways=2 if chooses else 5))
    rows = metrics(result.path)
    mixes = {float(r["alpha"]): float(r["val_accuracy"]) for r in rows if r["kind"] == "wise-ft"}
    assert sorted(mixes) == [0.25, 0.5, 0.75, 1.0]
    decision = rows[-1]
    keep = float(decision["difference"]) - float(decision["difference_ci95"]) > 0
    best = max(mixes, key=lambda a: (mixes[a], -a)) if chooses else 0.5
    assert float(decision["alpha"]) == (best if keep else 0)
    epochs = {int(r["epoch"]): float(r["val_accuracy"]) for r in rows if r["kind"] == "epoch"}
    assert result.best_epoch == (max(epochs, key=lambda e: (epochs[e], -e)) if chooses else 2)
    assert mixes[1.0] == epochs[result.best_epoch]  # alpha 1 is the best epoch itself


def test_tuning_that_does_not_help_keeps_the_untouched_encoder(config: TrainConfig) -> None:
    result = train(dataclasses.replace(config, visual_lr=0.0))
    assert result.alpha == 0 and result.difference.mean == 0
    loaded = load_checkpoint(result.path)
    assert not loaded.tuned and loaded.encoder.fingerprint == load_encoder(config.backbone).fingerprint


def test_two_runs_are_the_same_and_workers_do_not_matter(config: TrainConfig, tmp_path: Path) -> None:
    first = train(config).path
    second = train(dataclasses.replace(config, output=tmp_path / "again", workers=2)).path
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    assert metrics(first) == metrics(second)
    other = train(dataclasses.replace(config, output=tmp_path / "other", seed=1)).path
    assert (first / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()


@pytest.mark.parametrize("at", ["epoch   1", "epoch   2", "  mix 0.50"])
def test_a_killed_run_resumes_as_if_nothing_had_happened(config: TrainConfig, tmp_path: Path, at: str) -> None:
    whole = train(config).path
    cut = dataclasses.replace(config, output=tmp_path / "cut")
    with pytest.raises(Killed):
        train(cut, KillingConsole(at))
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    resumed = train(dataclasses.replace(cut, resume=True, workers=1)).path
    assert (whole / "model.safetensors").read_bytes() == (resumed / "model.safetensors").read_bytes()
    assert metrics(whole) == metrics(resumed)
    assert not (resumed / "resume.safetensors").exists()


def test_a_finished_run_is_never_overwritten_and_settings_are_checked(config: TrainConfig) -> None:
    with pytest.raises(Killed):
        train(config, KillingConsole("epoch   1"))
    with pytest.raises(DataError, match="unfinished run. Add --resume"):
        train(config)
    with pytest.raises(DataError, match="not finished"):
        load_checkpoint(config.output or "")
    with pytest.raises(UsageError, match=r"visual_lr was 0\.001, is 0\.1"):
        train(dataclasses.replace(config, resume=True, visual_lr=0.1))
    train(dataclasses.replace(config, resume=True))
    for again in (config, dataclasses.replace(config, resume=True)):
        with pytest.raises(DataError, match="finished"):
            train(again)


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0)])
def test_either_loss_may_be_off(config: TrainConfig, weights: tuple[float, float]) -> None:
    run = dataclasses.replace(config, prototypical_weight=weights[0], class_weight=weights[1], epochs=1)
    row = next(r for r in metrics(train(run).path) if r["kind"] == "epoch")
    expected = weights[0] * float(row["prototypical_loss"]) + weights[1] * float(row["class_loss"])
    assert float(row["loss"]) == pytest.approx(expected, rel=1e-6)


def test_the_losses_fall(config: TrainConfig, tmp_path: Path) -> None:
    easy = write_pictures(tmp_path / "easy", 12, 10, spread=5)
    plain = Augmentation(crop_scale=(1.0, 1.0), flip=0.0, colour=0.0)
    learns = dataclasses.replace(
        config,
        train_data=easy,
        unfreeze_blocks="all",
        epochs=8,
        visual_lr=3e-3,
        classifier_lr=1e-2,
        augmentation=plain,
    )
    rows = [row for row in metrics(train(learns).path) if row["kind"] == "epoch"]
    assert float(rows[-1]["prototypical_loss"]) < 0.8 * float(rows[0]["prototypical_loss"])
    assert float(rows[-1]["class_loss"]) < 0.8 * float(rows[0]["class_loss"])


def test_only_the_unfrozen_part_is_stored_twice_and_changes(config: TrainConfig) -> None:
    result = train(config)
    tensors, _ = load_tensors(result.path / "model.safetensors")
    tuned = {n.removeprefix("original.") for n in tensors if n.startswith("original.")}
    encoder = load_encoder(config.backbone)
    encoder.unfreeze_last(1)
    assert tuned == {n for n, p in encoder.named_parameters() if p.requires_grad}


def test_classes_are_held_out_without_val_data(config: TrainConfig) -> None:
    result = train(dataclasses.replace(config, val_data=None, ways=5, epochs=1))
    described = json.loads((result.path / "config.json").read_text())
    assert len(described["validation_classes"]) == 4 and len(described["class_names"]) == 8
    assert not set(described["validation_classes"]) & set(described["class_names"])


def test_of_few_classes_pictures_are_held_out(config: TrainConfig, tmp_path: Path) -> None:
    few = write_pictures(tmp_path / "few", 3, 10)
    result = train(dataclasses.replace(config, train_data=few, val_data=None, epochs=1, val_queries=1))
    described = json.loads((result.path / "config.json").read_text())
    assert len(described["class_names"]) == len(described["validation_classes"]) == 3
    assert "too few to hold" in described["split"]


def test_unreadable_training_pictures_are_replaced_and_named_once(
    config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = write_pictures(tmp_path / "broken", 6, 6)
    for name in ("class00/00.png", "class03/05.png"):
        (broken / name).write_bytes(b"not a picture")
    run = dataclasses.replace(config, train_data=broken, epochs=3)
    assert train(run).path.exists()
    said = capsys.readouterr().err
    assert said.count("class00/00.png: cannot be read") == 1 and said.count("class03/05.png: cannot be read") == 1
    with pytest.raises(DataError, match="cannot be read"):
        train(dataclasses.replace(run, output=tmp_path / "strict", strict=True))


def test_a_class_without_any_readable_picture_is_an_error(config: TrainConfig, tmp_path: Path) -> None:
    broken = write_pictures(tmp_path / "broken", 3, 4)
    for path in (broken / "class01").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="no picture of class 'class01' can be read"):
        train(dataclasses.replace(config, train_data=broken))


def test_shared_classes_and_pictures_are_told_and_refused_when_strict(
    config: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    same = dataclasses.replace(config, val_data=config.train_data, epochs=1)
    with pytest.raises(DataError, match="shared"):
        train(dataclasses.replace(same, strict=True))
    train(same)
    assert "will look better than it is" in capsys.readouterr().err


def test_folders_to_be_measured_on_are_checked_before_training(
    config: TrainConfig, other_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    apart = write_pictures(tmp_path / "apart", 3, 4, seed=9, offset=50)
    renamed = tmp_path / "tasks" / "testB" / "task1"
    for place in ("support/x", "support/y", "query"):
        (renamed / place).mkdir(parents=True)
    for number, place in enumerate(("support/x", "support/y", "query")):
        write_pictures(tmp_path / f"p{number}", 1, 1, seed=30 + number, offset=70 + number)
        shutil.copy(next((tmp_path / f"p{number}").rglob("*.png")), renamed / place / "a.png")
    shutil.copy(
        next(config.train_data.rglob("*.png")), renamed / "query" / "b.png"
    )  # a training picture under another name
    checked = dataclasses.replace(config, epochs=1, test_data=(apart, other_folders, tmp_path / "tasks"))
    with pytest.raises(DataError, match="will look better"):
        train(dataclasses.replace(checked, strict=True))
    assert not (tmp_path / "run").exists()
    train(checked)
    said = capsys.readouterr().err
    assert f"{config.val_data} and {other_folders}: 8 class names are shared" in said
    assert f"{config.train_data} and {tmp_path / 'tasks'}: 1 picture is identical" in said
    assert str(apart) not in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 5}, "the smallest that works is 6"),
        ({"ways": 10, "batch_size": 24}, "the smallest that works is 30"),
        ({"unfreeze_blocks": 3}, "has 2 blocks"),
        ({"ways": 13, "batch_size": 100}, "13 classes"),
    ],
)
def test_settings_that_cannot_work_say_what_does(config: TrainConfig, change: dict[str, int], message: str) -> None:
    with pytest.raises((UsageError, DataError), match=message):
        train(dataclasses.replace(config, **change))  # type: ignore[arg-type]


def test_ranges_of_ways_and_shots(config: TrainConfig) -> None:
    result = train(dataclasses.replace(config, ways="2-4", shots="1-3", batch_size=20, epochs=1))
    assert json.loads((result.path / "config.json").read_text())["ways"] == [2, 4]


@pytest.mark.parametrize("kind", ["resnet"])
def test_a_resnet_trains(config: TrainConfig, kind: str, request: pytest.FixtureRequest) -> None:
    path = str(request.getfixturevalue(f"{kind}_file"))
    result = train(dataclasses.replace(config, backbone=path, unfreeze_blocks=2, epochs=1))
    tensors, _ = load_tensors(result.path / "model.safetensors")
    assert any(name.startswith("original.visual.attnpool") for name in tensors)
    assert any(name.startswith("original.visual.layer4.0") for name in tensors)
    assert not any(name.startswith("original.visual.layer2") for name in tensors)


def test_bfloat16_stays_close_to_float32(config: TrainConfig, tmp_path: Path) -> None:
    rows: dict[str, dict[str, str]] = {}
    for precision in ("32", "bf16"):
        run = dataclasses.replace(config, precision=precision, output=tmp_path / precision, epochs=1)
        rows[precision] = next(r for r in metrics(train(run).path) if r["kind"] == "epoch")
    for column in ("prototypical_loss", "class_loss"):
        assert float(rows["bf16"][column]) == pytest.approx(float(rows["32"][column]), rel=0.05)
    assert rows["bf16"]["loss"] != rows["32"]["loss"]


def test_augmentation_is_keyed(class_folders: Path) -> None:
    from episodes.decoding import decode

    image = decode(next(class_folders.rglob("*.png")).read_bytes())
    augment: Callable[..., np.ndarray] = Augmentation(randaugment=2, rotation=10).build(32)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    assert np.array_equal(augment(image, 7), augment(image, 7))
    assert not np.array_equal(augment(image, 7), augment(image, 8))
    assert torch.equal(torch.get_rng_state(), state)


def test_two_processes_train_as_one(config: TrainConfig, tmp_path: Path) -> None:
    """Each takes one of a step's two episodes; the averaged gradients are those of one process with both."""
    shared = ["--train_data", config.train_data, "--val_data", config.val_data, "--backbone", config.backbone]
    shared += ["--unfreeze_blocks", 1, "--batch_size", 24, "--ways", 4, "--queries", 2, "--epochs", 2, "--dropout", 0]
    shared += ["--precision", 32, "--visual_lr", 1e-3, "--val_queries", 4, "--val_episodes", 20, "--workers", 0]
    root = Path(__file__).resolve().parents[2]
    for processes in (1, 2):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes]
        command += ["-m", "fewshot", "train", *shared, "--output", tmp_path / f"{processes}"]
        done = subprocess.run([str(c) for c in command], cwd=root, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("fewshot predict") == 1  # one process reports
    one, two = metrics(tmp_path / "1"), metrics(tmp_path / "2")
    assert len(one) == len(two) == 8
    for a, b in zip(one, two, strict=True):
        for column in ("prototypical_loss", "class_loss", "val_accuracy"):
            assert (a[column] == b[column] == "") or float(a[column]) == pytest.approx(float(b[column]), rel=1e-4)
    first, _ = load_tensors(tmp_path / "1" / "model.safetensors")
    second, _ = load_tensors(tmp_path / "2" / "model.safetensors")
    assert torch.allclose(first["classifier.fc2.weight"], second["classifier.fc2.weight"], atol=1e-5)


def test_tuning_that_helps_is_measured_and_kept_apart(config: TrainConfig) -> None:
    """Trained and validated on the same classes, a random encoder gets better; so few classes cannot be sure, so it is kept as asked."""
    same = Augmentation(crop_scale=(1.0, 1.0), flip=0.0, colour=0.0)
    learns = dataclasses.replace(
        config, val_data=config.train_data, unfreeze_blocks="all", epochs=12, augmentation=same, val_episodes=200
    )
    result = train(dataclasses.replace(learns, mix=1.0))
    assert result.alpha == 1 and result.difference.mean > result.difference.ci95
    loaded = load_checkpoint(result.path)
    assert loaded.tuned
    encoder, untouched = loaded.encoder.state_dict(), loaded.untouched_encoder().state_dict()
    tensors, _ = load_tensors(result.path / "model.safetensors")
    assert {n for n in encoder if not torch.equal(encoder[n], untouched[n])} <= {
        n.removeprefix("original.") for n in tensors if n.startswith("original.")
    }


def test_a_refused_run_leaves_nothing_behind(config: TrainConfig) -> None:
    with pytest.raises(DataError, match="13 classes"):
        train(dataclasses.replace(config, ways=13, batch_size=100))
    assert config.output is not None and not config.output.exists()
    with pytest.raises(DataError, match="no run to resume"):
        train(dataclasses.replace(config, resume=True))
    assert train(config).path == config.output


def test_resuming_with_other_pictures_is_refused(config: TrainConfig, tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "mine", 8, 6)
    mine = dataclasses.replace(config, train_data=data)
    with pytest.raises(Killed):
        train(mine, KillingConsole("epoch   1"))
    (data / "class00" / "00.png").unlink()
    with pytest.raises(DataError, match="pictures differ"):
        train(dataclasses.replace(mine, resume=True))


def test_broken_validation_pictures_do_not_stop_a_run(config: TrainConfig, tmp_path: Path) -> None:
    broken = write_pictures(tmp_path / "broken", 8, 6, seed=1, offset=20)
    for i in range(4):
        (broken / f"class{20 + i}" / "00.png").write_bytes(b"broken")
        (broken / f"class{20 + i}" / "01.png").write_bytes(b"")
    result = train(dataclasses.replace(config, val_data=broken, epochs=1, val_queries=2))
    assert len(result.unreadable) == 8
    measured = (
        load_checkpoint(result.path).calibration["prototype"].parts[0].log_temperature(np.array([3]), np.array([1]))
    )
    assert np.isfinite(measured).all()


def test_strict_refuses_before_anything_is_written(config: TrainConfig, tmp_path: Path) -> None:
    broken = write_pictures(tmp_path / "broken", 6, 6)
    (broken / "class05" / "05.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"class05/05\.png \(not a picture"):
        train(dataclasses.replace(config, train_data=broken, strict=True))
    assert config.output is not None and not config.output.exists()


def test_many_validation_classes_keep_enough_pictures(config: TrainConfig) -> None:
    from episodes import ImageTable
    from fewshot.training.validation import Validation

    table = ImageTable(list(range(1000 * 25)), np.repeat(np.arange(1000), 25), tuple(f"c{i}" for i in range(1000)))
    validation = Validation(table, dataclasses.replace(config, val_shots=5, val_queries=15), 1, None)
    assert (validation.shots, validation.queries, validation.ways) == (5, 15, 5)
