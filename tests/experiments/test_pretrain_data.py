"""Pictures, their augmentation, the guard against leaks, and the accuracy that the curve shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from clip.clip import _transform
from PIL import Image

from experiments.pretrain import augment, table
from experiments.pretrain.data import Pictures, alphabet, check_no_leak, decode, load_pictures
from experiments.pretrain.measure import ncm_accuracy


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def write_picture(path: Path, width: int = 40, height: int = 30, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.mark.parametrize("size", [(64, 64), (130, 90), (105, 105), (40, 64)])
def test_pictures_are_framed_and_normalised_as_clip_does(tmp_path: Path, size: tuple[int, int]) -> None:
    write_picture(tmp_path / "a.png", *size)
    mine = augment.eval_batch(torch.from_numpy(decode(tmp_path / "a.png"))[None], 64)[0]
    with Image.open(tmp_path / "a.png") as image:
        theirs = _transform(64)(image)
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=0)


def test_class_folders_become_labels_in_name_order(tmp_path: Path) -> None:
    for name in ("b/1.png", "a/2.png", "a/1.png", "a/notes.txt"):
        write_picture(tmp_path / name) if name.endswith("png") else (tmp_path / name).write_text("")
    (tmp_path / "empty").mkdir()
    pictures = load_pictures(tmp_path, size=16)
    assert pictures.class_names == ("a", "b")
    assert pictures.labels.tolist() == [0, 0, 1]
    assert pictures.pixels.shape == (3, 3, 16, 16) and pictures.pixels.dtype == torch.uint8
    with pytest.raises(FileNotFoundError, match="class folder"):
        load_pictures(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="expected a folder"):
        load_pictures(tmp_path / "nowhere")


def test_held_out_classes_may_not_be_trained_on(tmp_path: Path) -> None:
    for folder in ("tin/val/dog", "tin/novel/cat", "omniglot/novel/Thai_character03"):
        (tmp_path / folder).mkdir(parents=True)
    check_no_leak(tmp_path, ("lemon",), ("Korean_character03",))
    for photos, characters in ((("dog",), ()), (("lemon", "cat"), ()), ((), ("Thai_character09",))):
        with pytest.raises(ValueError, match="held-out"):
            check_no_leak(tmp_path, photos, characters)
    assert alphabet("Japanese_(katakana)_character01") == "Japanese_(katakana)"


def test_augmentation_is_a_function_of_its_generator() -> None:
    pixels = torch.randint(0, 255, (6, 3, 64, 64), dtype=torch.uint8, generator=generator())
    turns = torch.tensor([0, 1, 2, 3, 0, 1])
    functions: list[Callable[[torch.Generator], torch.Tensor]] = [
        lambda g: augment.augment_photos(pixels, 40, 0.2, 1.0, g),
        lambda g: augment.augment_characters(pixels, turns, 40, 1.0, g),
        lambda g: augment.mix(pixels.float(), 1.0, g)[0],
    ]
    for function in functions:
        one, two, other = function(generator(1)), function(generator(1)), function(generator(2))
        assert torch.equal(one, two) and not torch.equal(one, other)
        assert torch.isfinite(one).all()


def test_crops_stay_inside_the_picture() -> None:
    theta = augment.crop_boxes(500, 0.15, generator())
    assert ((theta[:, 0, 0].abs() + theta[:, 0, 2].abs()) <= 1 + 1e-6).all()
    assert ((theta[:, 1, 1] + theta[:, 1, 2].abs()) <= 1 + 1e-6).all()
    flipped = (theta[:, 0, 0] < 0).float().mean()
    assert 0.4 < flipped < 0.6


def test_sampling_the_whole_box_at_full_size_changes_nothing() -> None:
    pixels = torch.rand(2, 3, 64, 64)
    whole = torch.eye(2, 3).expand(2, 2, 3)
    torch.testing.assert_close(augment.sample(pixels, whole, 64), pixels, atol=1e-4, rtol=0)
    torch.testing.assert_close(augment.sample(pixels, whole, 32), F.avg_pool2d(pixels, 2), atol=1e-4, rtol=0)


def test_without_strength_colours_stay() -> None:
    matrix, contrast = augment.colour_matrices(200, 0.0, generator())
    kept = (matrix - torch.eye(3)).abs().amax((1, 2)) < 1e-5
    assert 0.8 < kept.float().mean() < 0.95  # the rest are grey
    grey = matrix[~kept] @ torch.rand(3, 1)
    torch.testing.assert_close(grey, grey[:, :1].expand(-1, 3, -1))
    assert torch.equal(contrast, torch.ones(200, 1, 1, 1))


def test_characters_turn_with_their_label() -> None:
    pixels = torch.full((1, 3, 64, 64), 255, dtype=torch.uint8)
    pixels[:, :, 4:16, 20:44] = 0  # a bar at the top
    places = []
    for turn in range(4):
        x = augment.augment_characters(pixels, torch.tensor([turn]), 64, 0.0, generator(0))[0, 0]
        ink = (x - x[32, 32]).abs()
        row = (ink.sum(1) * torch.arange(64)).sum() / ink.sum() - 31.5
        column = (ink.sum(0) * torch.arange(64)).sum() / ink.sum() - 31.5
        places.append(
            (
                round(row.sign().item()) if row.abs() > column.abs() else 0,
                round(column.sign().item()) if column.abs() > row.abs() else 0,
            )
        )
    assert places[0] == (-1, 0) and len(set(places)) == 4


def test_shares_of_a_mix_are_what_the_pixels_say() -> None:
    x = torch.arange(1, 9).float().view(8, 1, 1, 1).expand(8, 3, 32, 32)
    for seed in range(12):
        mixed, partner, own = augment.mix(x, 1.0, generator(seed))
        expected = own * (torch.arange(8) + 1) + (1 - own) * (partner + 1)
        torch.testing.assert_close(mixed.mean((1, 2, 3)), expected, atol=1e-4, rtol=0)
    mixed, partner, own = augment.mix(x, 0.0, generator())
    assert torch.equal(mixed, x) and own.eq(1).all() and torch.equal(partner, torch.arange(8))


def test_prototype_accuracy_equals_a_plain_loop() -> None:
    features = F.normalize(
        torch.randn(7 * 9, 12, generator=generator())
        + 2 * torch.randn(7, 12, generator=generator(1)).repeat_interleave(9, 0),
        dim=-1,
    )
    labels = torch.arange(7).repeat_interleave(9)
    draws, scores = generator(4), []
    for _ in range(40):
        classes = torch.randperm(7, generator=draws)[:3].tolist()
        rows = {c: (torch.randperm(9, generator=draws)[:6] + 9 * c).tolist() for c in classes}
        prototypes = {c: features[rows[c][:2]].numpy().mean(0) for c in classes}
        hits = [
            max(
                classes,
                key=lambda k: float(features[row].numpy() @ prototypes[k] / np.linalg.norm(prototypes[k])),
            )
            == c
            for c in classes
            for row in rows[c][2:]
        ]
        scores.append(np.mean(hits))
    mean, half = ncm_accuracy(features, labels, 2, seed=4, episodes=40, ways=3, queries=4)
    assert mean == pytest.approx(np.mean(scores), abs=1e-6)
    assert half == pytest.approx(1.96 * np.std(scores, ddof=1) / 40**0.5, abs=1e-6)


def test_prototype_accuracy_refuses_too_few_classes() -> None:
    with pytest.raises(ValueError, match="5 are needed"):
        ncm_accuracy(torch.eye(4), torch.arange(4), 1)


def test_the_table_has_a_line_for_each_set_and_a_column_for_each_encoder() -> None:
    pixels = torch.randint(0, 255, (5 * 20, 3, 8, 8), dtype=torch.uint8, generator=generator())
    pictures = Pictures(pixels, torch.arange(5).repeat_interleave(20), tuple("abcde"))
    rows = table.few_shot_rows({"raw": table.raw_pixels}, [("one", pictures), ("two", pictures)], episodes=20, seed=0)
    assert [(row.data, row.shots) for row in rows] == [("one", 1), ("one", 5), ("two", 1), ("two", 5)]
    assert rows[0].accuracy == rows[2].accuracy and 0.1 < rows[0].accuracy < 0.3
    lines = table.markdown(rows).splitlines()
    assert len(lines) == 4 and lines[0].count("|") == lines[3].count("|") == 4
    torch.testing.assert_close(table.raw_pixels(pixels).norm(dim=-1), torch.ones(100))
