"""A training run in small: steps, shards, resuming, the budget and its deadline."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments.pretrain import schedule
from experiments.pretrain.data import Pictures
from experiments.pretrain.fit import fit
from experiments.pretrain.model import Shape
from experiments.pretrain.train import Run, Settings

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
    run = Run(replace(SETTINGS, epochs=10, mix=0.0), photos, characters)
    first = run.train_step()
    fit(run, tmp_path, validation)
    assert run.budget.share == 1
    with (tmp_path / "curve.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert float(lines[-1]["share"]) == 1
    assert 0.2 < float(lines[-1]["val_5way_5shot"]) <= 1
    last = run.train_step()
    assert all(last[name] < 0.8 * first[name] for name in last), (first, last)
    assert (tmp_path / "checkpoint.pt").exists()


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
