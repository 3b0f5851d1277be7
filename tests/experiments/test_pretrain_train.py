"""A training run in small: steps, shards, resuming, the budget and its deadline."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.neighbors import NearestCentroid

from experiments.pretrain import augment, schedule
from experiments.pretrain.data import Pictures
from experiments.pretrain.fit import fit
from experiments.pretrain.losses import mixed, taught, view_contrast
from experiments.pretrain.measure import embed
from experiments.pretrain.model import Shape, make_clip
from experiments.pretrain.teacher import soft_labels
from experiments.pretrain.train import Run, Settings

pytestmark = pytest.mark.slow  # the making of `tiny`, a minute that changes rarely

SETTINGS = Settings(
    epochs=2,
    batch_photos=12,
    batch_characters=4,
    precision="32",
    compile=False,
    seed=1,
    shape=Shape(image=64, patch=16, width=64, layers=2, embed=16, text_width=64, text_layers=1),
)


def pictures(names: tuple[str, ...], each: int, seed: int) -> Pictures:
    """Classes told apart by their colour, so that a few steps learn something."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(names)).repeat_interleave(each)
    colour = torch.randint(0, 255, (len(names), 3, 1, 1), generator=generator)[labels].float()
    noise = torch.randn(len(labels), 3, 64, 64, generator=generator) * 20
    return Pictures((colour + noise).clamp(0, 255).to(torch.uint8), labels, names)


@pytest.fixture
def photos() -> Pictures:
    return pictures(("red_fox", "lemon", "sea_cucumber"), 20, 0)


@pytest.fixture
def characters() -> Pictures:
    return pictures(("Latin_character01", "Greek_character02"), 10, 1)


def test_resuming_takes_the_very_step_that_would_have_come(
    photos: Pictures, characters: Pictures, tmp_path: Path
) -> None:
    straight = Run(SETTINGS, photos, characters)
    for _ in range(2):
        straight.train_step()
        straight.budget.by_steps(10)
    straight.save(tmp_path / "checkpoint.pt")
    expected = straight.train_step()
    resumed = Run(replace(SETTINGS, seed=1), photos, characters)
    resumed.load(tmp_path / "checkpoint.pt")
    assert resumed.budget.share == pytest.approx(0.2)
    assert resumed.train_step() == expected
    for name in ("model", "average", "heads"):
        mine, theirs = (getattr(run, name).state_dict() for run in (resumed, straight))
        assert all(torch.equal(mine[key], theirs[key]) for key in theirs), name


def test_shards_share_weights_and_average_their_gradients(photos: Pictures, characters: Pictures) -> None:
    run = Run(replace(SETTINGS, shards=2), photos, characters)
    rows, char_rows = torch.arange(6), torch.arange(2)
    for index in range(2):
        run.shard_backward(index, rows + 6 * index, char_rows + 2 * index, 32)
    grads = [replica[0].visual.proj.grad.clone() for replica in run.replicas]
    assert not torch.equal(*grads)
    run.gather_gradients()
    torch.testing.assert_close(run.model.visual.proj.grad, (grads[0] + grads[1]) / 2)
    before = run.model.visual.proj.detach().clone()
    run.train_step()
    assert not torch.equal(run.model.visual.proj, before)
    assert torch.equal(run.replicas[1][0].visual.proj, run.model.visual.proj)


def test_threads_change_no_number(photos: Pictures, characters: Pictures) -> None:
    runs = [Run(replace(SETTINGS, shards=2), photos, characters) for _ in range(2)]
    for run in runs:
        for _ in range(3):
            losses = run.train_step()
    runs[0].compiled_sizes.clear()  # the shards one after the other, once more
    assert runs[0].train_step() == runs[1].train_step() and losses
    assert torch.equal(runs[0].model.visual.proj, runs[1].model.visual.proj)


def test_every_picture_comes_once_an_epoch(photos: Pictures, characters: Pictures) -> None:
    run = Run(SETTINGS, photos, characters)
    assert run.photos_a_step == 6 and Run(replace(SETTINGS, contrast_weight=0), photos, characters).photos_a_step == 12
    epochs = []
    for step in range(10):
        run.step = step
        epochs.append(run.rows(photos, 12, 0))
    first, second = torch.cat(epochs[:5]), torch.cat(epochs[5:])
    assert first.sort().values.tolist() == list(range(60)) == second.sort().values.tolist()
    assert not torch.equal(first, second)


def test_a_run_learns_and_leaves_its_curve_and_checkpoint(
    photos: Pictures, characters: Pictures, tmp_path: Path
) -> None:
    validation = pictures(tuple("abcde"), 20, 7)
    (tmp_path / "curve.csv").write_text("step,share,val_5way_5shot\n7,0.1,0.25\n")  # of a run that had other losses
    run = Run(replace(SETTINGS, epochs=10, mix=0.0), photos, characters)
    first = run.train_step()
    fit(run, tmp_path, validation)
    assert run.budget.share == 1
    with (tmp_path / "curve.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert lines[0]["share"] == "0.1" and lines[0]["val_5way_5shot"] == "0.25" and lines[0]["loss_views"] == ""
    assert len(lines) == 2 and float(lines[-1]["share"]) == 1
    assert 0.2 < float(lines[-1]["val_5way_5shot"]) <= 1
    last = run.train_step()
    named = last.keys() - {"views"}  # which differ by noise alone here, and cannot be told apart
    assert all(last[name] < 0.8 * first[name] for name in named), (first, last)
    assert (tmp_path / "checkpoint.pt").exists()


def test_a_batch_holds_two_views_of_each_picture_and_mixed_ones_have_no_contrast(
    photos: Pictures, characters: Pictures
) -> None:
    run = Run(replace(SETTINGS, mix=0.0), photos, characters)
    rows = torch.arange(6).repeat(2)
    x, targets = run.batch(rows, torch.arange(2), 32, torch.Generator().manual_seed(0))
    assert x.shape == (14, 3, 32, 32) and not torch.equal(x[:6], x[6:12])
    assert torch.equal(targets.first[:6], targets.first[6:])
    assert "views" in run.train_step()
    assert "views" not in Run(replace(SETTINGS, mix=1.0), photos, characters).train_step()
    assert "views" not in Run(replace(SETTINGS, mix=0.0, contrast_weight=0), photos, characters).train_step()


def test_view_contrast_equals_a_plain_loop() -> None:
    """Chen et al. 2020, equation 1, averaged over both members of every pair."""
    z = torch.nn.functional.normalize(torch.randn(8, 5, generator=torch.Generator().manual_seed(0)), dim=-1)
    losses = []
    for i in range(8):
        other = (i + 4) % 8
        others = [math.exp(float(z[i] @ z[k]) / 0.3) for k in range(8) if k != i]
        losses.append(-math.log(math.exp(float(z[i] @ z[other]) / 0.3) / sum(others)))
    assert float(view_contrast(z, 0.3)) == pytest.approx(sum(losses) / 8, rel=1e-5)


def test_a_teacher_s_soft_labels_are_those_of_its_class_means(photos: Pictures) -> None:
    teacher = make_clip(SETTINGS.shape, 4, 5)
    found = soft_labels(teacher, photos, 64, 7.0, torch.float32)
    features = embed(teacher, photos.pixels, 64, torch.float32).numpy()
    means = NearestCentroid().fit(features, photos.labels.numpy()).centroids_
    logits = 7 * features @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
    np.testing.assert_allclose(found.numpy(), softmax(logits, axis=1), atol=1e-5)


def test_a_teacher_counts_by_its_weight(photos: Pictures, characters: Pictures) -> None:
    teacher = make_clip(SETTINGS.shape, 4, 5)
    settings = replace(SETTINGS, mix=1.0)
    taught_run = Run(settings, photos, characters, teacher)
    expected = soft_labels(teacher, photos, 64, settings.teacher_scale, torch.float32)
    rows = torch.tensor([3, 17, 40, 59])
    _, targets = taught_run.batch(rows, torch.arange(2), 32, torch.Generator().manual_seed(4))
    _, plain = Run(settings, photos, characters).batch(rows, torch.arange(2), 32, torch.Generator().manual_seed(4))
    assert plain.soft is None and targets.soft is not None and (targets.share < 1).any()
    _, partner, share = augment.mix(torch.zeros(4, 3, 32, 32), 1.0, mixing_generator(taught_run, rows, 4))
    wanted = share[:, None] * expected[rows] + (1 - share[:, None]) * expected[rows[partner]]
    torch.testing.assert_close(targets.soft, wanted)
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    by_labels, by_teacher = mixed(logits, plain, 0.1), torch.nn.functional.cross_entropy(logits, wanted)
    torch.testing.assert_close(taught(logits, targets, 0.1), 0.3 * by_labels + 0.7 * by_teacher)
    assert torch.equal(taught(logits, plain, 0.1), by_labels)


def mixing_generator(run: Run, rows: torch.Tensor, seed: int) -> torch.Generator:
    """The generator of `Run.batch` where it comes to mixing."""
    generator = torch.Generator().manual_seed(seed)
    augment.augment_photos(run.photos.pixels[rows], 32, run.settings.smallest_crop, run.settings.strength, generator)
    return generator


@pytest.mark.parametrize("pause", [0.0, 600.0])
def test_the_clock_budget_ends_on_its_deadline_even_after_a_pause(pause: float) -> None:
    budget, now, deadline, steps = schedule.Budget(), 0.0, 3600.0, 0
    while budget.share < 1:
        seconds = 20.0 if steps == 0 else 1.5 if budget.share > 0.6 else 0.5  # compilation first, larger pictures later
        seconds += pause if steps == 1000 else 0
        now, steps = now + seconds, steps + 1
        budget.by_clock(seconds, deadline - now)
        if steps == 5:
            assert budget.share < 0.01
    assert deadline - 30 <= now <= deadline + 3


def test_the_schedule_warms_up_anneals_and_grows_its_pictures() -> None:
    shares = [i / 1000 for i in range(1001)]
    rates = [schedule.rate(share) for share in shares]
    peak = rates.index(max(rates))
    assert shares[peak] == pytest.approx(schedule.WARM_UP)
    assert rates[0] < 0.01 and rates[-1] == pytest.approx(0.01)
    assert all(a >= b for a, b in zip(rates[peak:], rates[peak + 1 :], strict=False))
    sizes = [schedule.picture_size(share) for share in shares]
    assert sizes == sorted(sizes) and sizes[-1] == 64
    assert all(size % 8 == 0 for size in sizes)
