"""The whole of ``python -m experiments.pretrain_tiny_clip`` on a handful of pictures."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.pretrain import export
from experiments.pretrain.vocabulary import PHOTO_PROMPTS, tokenise, used_tokens
from experiments.pretrain_tiny_clip import Arguments, main, settings_of, train

pytestmark = pytest.mark.slow  # the making of `tiny`, a minute that changes rarely


def write_classes(root: Path, names: tuple[str, ...], each: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for name in names:
        colour = rng.integers(0, 255, 3)
        (root / name).mkdir(parents=True)
        for i in range(each):
            pixels = np.clip(colour + rng.normal(0, 20, (64, 64, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    write_classes(root / "tin/base", ("red_fox", "lemon"), 8, 0)
    write_classes(root / "omniglot/base", ("Latin_character01",), 4, 1)
    write_classes(root / "tin/val", tuple("abcde"), 10, 2)
    write_classes(root / "tin/novel", tuple("fghij"), 10, 3)
    write_classes(root / "pacs/photo", tuple("klmno"), 10, 4)
    return root


def test_a_run_trains_exports_measures_and_is_not_overwritten(data: Path, tmp_path: Path) -> None:
    arguments = Arguments(
        data,
        tmp_path / "out",
        epochs=1,
        shards=1,
        batch_photos=8,
        batch_characters=2,
        compile=False,
        episodes=8,
    )
    main(arguments)
    model = export.read(tmp_path / "out/tiny.safetensors")
    table = model.token_embedding.weight
    trained = used_tokens(
        tokenise(("red_fox", "lemon"), PHOTO_PROMPTS),
        tokenise(("Latin_character01",), ("a handwritten character of {}.", "a drawing of the character {}.")),
    )
    assert len(torch.unique(table, dim=0)) == len(trained) + 1
    with (tmp_path / "out/table.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["encoder"] for row in rows} == {"tiny", "untrained", "raw pixels"}
    assert {row["data"] for row in rows if row["shots"] == "5"} == {"tin val", "tin novel", "pacs photo"}
    colour = {
        row["data"]: float(row["accuracy"]) for row in rows if row["encoder"] == "raw pixels" and row["shots"] == "5"
    }
    assert min(colour.values()) > 0.9  # classes of one colour each
    before = (tmp_path / "out/tiny.safetensors").read_bytes()
    with pytest.raises(FileExistsError, match="--resume"):
        main(arguments)
    assert (tmp_path / "out/tiny.safetensors").read_bytes() == before
    with pytest.raises(ValueError, match="together with --resume"):
        train(replace(arguments, output=tmp_path / "other", from_share=0.5))
    train(replace(arguments, resume=True))  # it has ended: nothing is left to do
    assert (tmp_path / "out/tiny.safetensors").read_bytes() == before
    train(replace(arguments, resume=True, from_share=0.5))
    with (tmp_path / "out/curve.csv").open(newline="", encoding="utf-8") as stream:
        assert [row["step"] for row in csv.DictReader(stream)] == ["4", "6"]
    assert (tmp_path / "out/tiny.safetensors").read_bytes() != before


def test_a_leak_stops_the_run_before_it_starts(data: Path, tmp_path: Path) -> None:
    write_classes(data / "tin/base", ("f",), 8, 5)
    with pytest.raises(ValueError, match="held-out"):
        main(Arguments(data, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_gpu_takes_a_step_in_one_piece(tmp_path: Path) -> None:
    arguments = Arguments(tmp_path, tmp_path)
    assert settings_of(replace(arguments, device="cuda")).shards == 1
    assert settings_of(arguments).shards >= 1
    assert settings_of(replace(arguments, shards=3)).shards == 3
