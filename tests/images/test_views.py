"""Views at embedding time against Pillow's own crop, and one picture's embedding against a plain mean over them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from episodes import read_class_folders
from fewshot.checkpoint import load_checkpoint
from fewshot.commands.cli import main
from fewshot.embedding.cache import EmbeddingCache
from fewshot.embedding.embed import embed_images
from fewshot.encoders import load_encoder
from fewshot.images.transform import normalise
from fewshot.images.views import VIEWS, View, view_pixels
from tests.conftest import write_pictures


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    """A picture that is no mirror image of itself, wider than high."""
    generator = np.random.default_rng(0)
    small = Image.fromarray(generator.integers(0, 256, (6, 9, 3), dtype=np.uint8))
    path = tmp_path / "photograph.png"
    small.resize((180, 120), Image.Resampling.BICUBIC).save(path)
    return path


def by_pillow(path: Path, size: int, view: View) -> np.ndarray:
    """The view, by resizing the whole picture and cutting out its middle."""
    large = round(size * view.zoom)
    image = Image.open(path).convert("RGB")
    image = image.resize((large * image.width // image.height, large), Image.Resampling.BICUBIC)
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    image = image.crop((left, top, left + size, top + size))
    return np.asarray(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if view.mirrored else image).transpose(2, 0, 1)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name or "as it is")
def test_a_view_is_a_zoomed_and_mirrored_picture(view: View, photograph: Path) -> None:
    found = view_pixels(photograph.read_bytes(), 64, view)
    expected = by_pillow(photograph, 64, view)
    assert found.shape == (3, 64, 64) and found.dtype == np.uint8 and found.flags.c_contiguous
    assert np.abs(found.astype(int) - expected).mean() < 2  # a pixel's half at most, where the two round differently
    others = [by_pillow(photograph, 64, other) for other in VIEWS if other != view]
    assert all(np.abs(found.astype(int) - other).mean() > 8 for other in others)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_embedding_is_the_mean_of_the_views(count: int, photograph: Path) -> None:
    encoder = load_encoder("tiny")
    pixels = [torch.from_numpy(view_pixels(photograph.read_bytes(), 64, view)) for view in VIEWS[:count]]
    with torch.no_grad():
        expected = F.normalize(
            torch.stack([encoder(normalise(each, encoder)[None])[0] for each in pixels]).mean(0), dim=0
        )
    found = embed_images(encoder, [photograph], precision="32", batch_size=4, views=count)
    assert torch.allclose(found.features[0], expected, atol=1e-5) and found.computed == count
    encoder.embed_views = count
    assert torch.equal(embed_images(encoder, [photograph], precision="32", batch_size=4).features, found.features)
    with pytest.raises(ValueError, match="from 1 to 4"):
        embed_images(encoder, [photograph], views=5)


def test_each_view_is_cached_by_itself_and_unreadable_pictures_stay_so(tmp_path: Path, photograph: Path) -> None:
    encoder, cache = load_encoder("tiny"), EmbeddingCache(tmp_path / "cache.sqlite")
    broken = tmp_path / "broken.png"
    broken.write_bytes(photograph.read_bytes()[:200])
    told: list[tuple[int, int]] = []
    items = [photograph, broken]
    once = embed_images(encoder, items, cache=cache)
    twice = embed_images(encoder, items, cache=cache, views=2, progress=lambda done, n: told.append((done, n)))
    assert (once.computed, twice.computed) == (1, 1)  # the first view was there already
    assert twice.readable.tolist() == [True, False] and list(twice.problems) == [1]
    assert not bool(twice.features[1].any()) and told[-1] == (4, 4)
    again = embed_images(encoder, items, cache=cache, views=2)
    assert again.computed == 0 and torch.equal(again.features, twice.features)
    assert not torch.allclose(once.features[0], twice.features[0], atol=1e-4)


def test_commands_use_as_many_views_as_they_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The confidence in the CSV is that of prototypes of two views, reckoned here by hand; the checkpoint keeps its number."""
    task = tmp_path / "testB" / "task1"
    write_pictures(task / "support", 2, 2)
    (task / "query").mkdir()
    for number, path in enumerate(sorted(write_pictures(tmp_path / "more", 2, 2, seed=3).rglob("*.png"))):
        path.rename(task / "query" / f"{number}.png")
    result = tmp_path / "result.csv"
    common = ["--backbone", "tiny", "--precision", "32", "--columns", "image,label,confidence"]
    assert main(["predict", str(tmp_path), str(result), *common, "--embed_views", "2"]) == 0
    table = read_class_folders(task / "support")
    encoder = load_encoder("tiny")
    queries = sorted((task / "query").iterdir())
    support, query = (
        embed_images(encoder, items, precision="32", views=2).features for items in (table.items, queries)
    )
    prototypes = F.normalize(torch.stack([support[table.rows_of(label)].mean(0) for label in range(2)]), dim=-1)
    cosine = query @ prototypes.T
    with result.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == [table.class_names[int(place)] for place in cosine.argmax(1)]
    single = tmp_path / "single.csv"
    assert main(["predict", str(tmp_path), str(single), *common]) == 0
    assert single.read_text() != result.read_text()
    assert main(["predict", str(tmp_path), str(single), *common, "--embed_views", "2", "--adapt", "norms"]) == 2
    assert "--embed_views 1" in capsys.readouterr().err
    assert main(["predict", str(tmp_path), str(single), *common, "--embed_views", "5"]) == 2


def test_a_checkpoint_is_validated_and_used_with_the_views_of_its_training(
    tmp_path: Path, class_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    settings = ["--backbone", "tiny", "--unfreeze_blocks", "1", "--epochs", "1", "--ways", "4",
                "--val_episodes", "8", "--val_ways", "3", "--queries", "2"]  # fmt: skip
    assert (
        main(["train", "--train_data", str(class_folders), "--output", str(run), *settings, "--embed_views", "2"]) == 0
    )
    loaded = load_checkpoint(run)
    assert loaded.encoder.embed_views == loaded.untouched_encoder().embed_views == 2
    assert loaded.config["settings"]["embed_views"] == 2
    evaluate = ["evaluate", str(class_folders), "--checkpoint", str(run), "--ways", "3", "--shots", "1", "--queries", "2",
                "--episodes", "4"]  # fmt: skip
    capsys.readouterr()
    assert main(evaluate) == 0 and "views a picture" not in capsys.readouterr().err
    assert main([*evaluate, "--embed_views", "1"]) == 0 and "1 views a picture" in capsys.readouterr().err
