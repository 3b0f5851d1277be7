"""The frozen-trunk cache changes what training costs, not what it computes; and views are functions of seed, row and number."""

from __future__ import annotations

import csv
import dataclasses
import json
import pickle
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from episodes import EpisodeSampler, read_class_folders
from episodes.decoding import UnreadableImage
from episodes.errors import DataError, UsageError
from fewshot.console import Console
from fewshot.embedding import hidden_states_store
from fewshot.embedding.cache import default_cache_path
from fewshot.embedding.embed import embed_images
from fewshot.embedding.hidden_states import HiddenStates, hidden_states_key
from fewshot.embedding.hidden_states_compute import compute_hidden_states
from fewshot.embedding.hidden_states_store import stored_hidden_states
from fewshot.encoders import VisionEncoder, load_encoder
from fewshot.images.augmentation import Augmentation
from fewshot.images.augmented_views import PictureSource
from fewshot.images.transform import normalise
from fewshot.training import TrainConfig, train
from fewshot.training.loader import EpisodeLoader
from fewshot.training.metrics import TIME_COLUMNS
from tests.conftest import write_pictures

LOSSES = ("loss", "prototypical_loss", "class_loss")


@pytest.fixture
def config(small_run: TrainConfig) -> TrainConfig:
    return dataclasses.replace(small_run, epochs=3, views=2, trunk_cache="on")


@pytest.fixture
def encoder(vit_file: Path) -> VisionEncoder:
    return load_encoder(str(vit_file))


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in TIME_COLUMNS} for row in csv.DictReader(file)]


def make(
    encoder: VisionEncoder, folder: Path, root: Path, *, precision: str = "32", blocks: int = 1, views: int = 2
) -> HiddenStates:
    table = read_class_folders(folder)
    settings: dict[str, object] = {"views": views, "augmentation": Augmentation(), "seed": 3}
    key = hidden_states_key(encoder, table.items, precision=precision, **settings)  # type: ignore[arg-type]
    source = PictureSource(table.items, encoder.image_size, Augmentation(), views=views, seed=3)
    return compute_hidden_states(root, key, blocks, encoder, source)


class Killed(Exception):
    """Stands for a process that dies."""


class KillingConsole(Console):
    """Dies at the line that announces the second epoch."""

    def line(self, text: str) -> None:
        if text.startswith("epoch   2"):
            raise Killed


class Listening(Console):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.said: list[str] = []

    def line(self, text: str) -> None:
        self.said.append(text)


@pytest.mark.parametrize(("precision", "backbone"), [("32", "vit"), ("bf16", "vit"), ("32", "resnet")])
def test_losses_are_the_same_with_and_without(
    config: TrainConfig, tmp_path: Path, precision: str, backbone: str, request: pytest.FixtureRequest
) -> None:
    weights = str(request.getfixturevalue(f"{backbone}_file"))
    run = dataclasses.replace(config, precision=precision, backbone=weights)  # type: ignore[arg-type]
    on = rows(train(run).path)
    off = rows(train(dataclasses.replace(run, trunk_cache="off", output=tmp_path / "off")).path)
    assert [row["kind"] for row in on] == [row["kind"] for row in off]
    for a, b in zip(on, off, strict=True):
        for column in LOSSES:
            assert (a[column] == b[column] == "") or float(a[column]) == pytest.approx(float(b[column]), rel=1e-3)
    fresh = rows(train(dataclasses.replace(run, views=None, trunk_cache="off", output=tmp_path / "fresh")).path)
    assert fresh[1]["loss"] != off[1]["loss"]  # without --views other pictures are seen


@pytest.mark.parametrize("precision", ["32", "bf16"])
@pytest.mark.parametrize("kept", [True, False])
def test_a_killed_run_resumes_as_if_nothing_had_happened(
    config: TrainConfig, tmp_path: Path, precision: str, kept: bool
) -> None:
    run = dataclasses.replace(config, precision=precision)  # type: ignore[arg-type]
    whole = train(run).path
    cut = dataclasses.replace(run, output=tmp_path / "cut")
    with pytest.raises(Killed):
        train(cut, KillingConsole(quiet=True))
    if not kept:
        for part in (default_cache_path().parent / "trunks").iterdir():
            part.unlink()
    resumed = train(dataclasses.replace(cut, resume=True)).path
    assert (whole / "model.safetensors").read_bytes() == (resumed / "model.safetensors").read_bytes()
    assert rows(whole) == rows(resumed)


def test_a_run_with_more_frozen_blocks_goes_on_from_a_trunk_behind_fewer(config: TrainConfig, tmp_path: Path) -> None:
    train(dataclasses.replace(config, unfreeze_blocks=2))
    console = Listening()
    run = dataclasses.replace(config, trunk_cache="auto", output=tmp_path / "more")
    path = train(run, console).path
    assert json.loads((path / "config.json").read_text())["trunk_blocks"] == 0
    assert any("from an earlier run" in said for said in console.said)
    off = rows(train(dataclasses.replace(run, trunk_cache="off", output=tmp_path / "off")).path)
    for a, b in zip(rows(path), off, strict=True):
        assert (a["loss"] == b["loss"] == "") or float(a["loss"]) == pytest.approx(float(b["loss"]), rel=1e-3)


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_a_deeper_trunk_goes_on_from_one_behind_fewer_blocks_without_reading_a_picture(
    encoder: VisionEncoder, tmp_path: Path, precision: str
) -> None:
    folder = write_pictures(tmp_path / "pictures", 2, 20)
    (folder / "class00" / "broken.png").write_bytes(b"no picture")
    table = read_class_folders(folder)
    key = hidden_states_key(encoder, table.items, views=2, augmentation=Augmentation(), seed=3, precision=precision)  # type: ignore[arg-type]
    source = PictureSource(table.items, encoder.image_size, Augmentation(), views=2, seed=3)
    expected = compute_hidden_states(tmp_path / "alone", key, 2, encoder, source)
    shallower = compute_hidden_states(tmp_path / "shared", key, 0, encoder, source)
    shutil.rmtree(folder)
    found = compute_hidden_states(tmp_path / "shared", key, 2, encoder, source)
    assert found.path.read_bytes() == expected.path.read_bytes() != shallower.path.read_bytes()
    assert found.problems == expected.problems and len(found.problems) == 1 and found.n_frozen == 2


def test_auto_uses_it_where_it_pays_and_says_what_it_takes(config: TrainConfig, tmp_path: Path) -> None:
    console = Listening()
    short = dataclasses.replace(config, trunk_cache="auto", epochs=1, views=4)
    path = train(short, console).path
    assert json.loads((path / "config.json").read_text())["trunk_blocks"] is None
    assert any("120 pictures x 4 views" in said and "of disk" in said for said in console.said)
    assert any("would not pay" in said for said in console.said)
    path = train(dataclasses.replace(short, epochs=6, output=tmp_path / "long")).path
    assert json.loads((path / "config.json").read_text())["trunk_blocks"] == 1


def test_a_trunk_that_does_not_fit_is_refused_or_gone_without(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fewshot.training.hidden_state_cache.room", lambda root: 1000)
    with pytest.raises(DataError, match="the trunk cache needs"):
        train(config)
    console = Listening()
    run = dataclasses.replace(config, trunk_cache="auto", epochs=9, output=tmp_path / "auto")
    assert json.loads((train(run, console).path / "config.json").read_text())["trunk_blocks"] is None
    assert any("does not fit" in said for said in console.said)


def test_without_the_cache_of_embeddings_a_trunk_lives_as_long_as_its_run(config: TrainConfig) -> None:
    path = train(dataclasses.replace(config, no_cache=True)).path
    assert not (path / "trunks").exists()
    assert not (default_cache_path().parent / "trunks").exists()


def test_settings_that_cannot_work_are_refused(config: TrainConfig) -> None:
    for change in ({"views": None}, {"unfreeze_blocks": "all"}, {"views": 0}):
        with pytest.raises(UsageError, match="views|frozen"):
            dataclasses.replace(config, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["32", "bf16"])
@pytest.mark.parametrize("backbone", ["vit", "resnet"])
def test_the_tail_on_a_trunk_gives_the_bits_of_the_whole_encoder(
    backbone: str, precision: str, class_folders: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    encoder = load_encoder(str(request.getfixturevalue(f"{backbone}_file")))
    items = read_class_folders(class_folders).items
    whole = embed_images(encoder, items, precision=precision).features  # type: ignore[arg-type]
    for blocks in range(len(encoder.blocks) + 1):
        key = hidden_states_key(encoder, items, precision=precision)  # type: ignore[arg-type]
        made = compute_hidden_states(tmp_path, key, blocks, encoder, PictureSource(items, encoder.image_size, None))
        assert made.dtype == (torch.float32 if precision == "32" else torch.bfloat16)
        assert torch.equal(made.embed(encoder, precision).features, whole)  # type: ignore[arg-type]


def test_a_trunk_holds_what_the_encoder_makes_of_each_view(
    encoder: VisionEncoder, class_folders: Path, tmp_path: Path
) -> None:
    made = pickle.loads(pickle.dumps(make(encoder, class_folders, tmp_path)))
    source = PictureSource(read_class_folders(class_folders).items, 32, Augmentation(), views=2, seed=3)
    with torch.no_grad():
        for row, key in ((0, 0), (0, 1), (57, 10), (119, 7)):
            picture = source(row, key)
            assert torch.equal(picture, source.views(row)[key % 2])
            expected = encoder.forward_trunk(normalise(picture.unsqueeze(0), encoder), 1)[0]
            assert torch.allclose(made(row, key), expected, atol=1e-5)
    assert not torch.equal(made(0, 0), made(0, 1))


def test_steps_of_hidden_states_have_the_rows_and_views_of_steps_of_pictures(
    encoder: VisionEncoder, class_folders: Path, tmp_path: Path
) -> None:
    made = make(encoder, class_folders, tmp_path, blocks=2)
    sampler = EpisodeSampler(read_class_folders(class_folders), ways=3, shots=2, queries=2, episodes=4, seed=1)
    settings: dict[str, object] = {"augmentation": Augmentation(), "views": 2, "seed": 3, "episodes_per_step": 2}
    pictures = list(EpisodeLoader(sampler, 32, **settings))  # type: ignore[arg-type]
    hidden = list(EpisodeLoader(sampler, 32, source=made, **settings))  # type: ignore[arg-type]
    for a, b in zip(pictures, hidden, strict=True):
        with torch.no_grad():
            expected = encoder(normalise(a.images, encoder))
            assert torch.allclose(encoder.forward_tail(b.images, 2), expected, atol=1e-5)
        assert torch.equal(a.classes, b.classes)


def test_a_key_changes_with_everything_that_a_trunk_depends_on(
    encoder: VisionEncoder, class_folders: Path, tmp_path: Path
) -> None:
    items = list(read_class_folders(class_folders).items)
    settings: dict[str, object] = {"views": 2, "augmentation": Augmentation(), "seed": 0, "precision": "32"}
    keys = {hidden_states_key(encoder, items, **settings).digest}  # type: ignore[arg-type]
    for change in (
        {"views": 3},
        {"augmentation": Augmentation(flip=0.1)},
        {"seed": 1},
        {"precision": "bf16"},
        {"views": None},
    ):
        keys.add(hidden_states_key(encoder, items, **{**settings, **change}).digest)  # type: ignore[arg-type]
    other = write_pictures(tmp_path / "other", 1, 1, seed=5) / "class00" / "00.png"
    keys.add(hidden_states_key(encoder, [other, *items[1:]], **settings).digest)  # type: ignore[arg-type]
    with torch.no_grad():
        encoder.visual.conv1.weight[0, 0, 0, 0] += 1e-3
    keys.add(hidden_states_key(encoder, items, **settings).digest)  # type: ignore[arg-type]
    assert len(keys) == 8


def test_unreadable_pictures_are_known_to_the_trunk(encoder: VisionEncoder, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "pictures", 2, 3)
    (folder / "class01" / "01.png").write_bytes(b"not a picture")
    made = make(encoder, folder, tmp_path)
    assert list(made.problems) == [4]
    with pytest.raises(UnreadableImage):
        made(4, 0)
    found = made.embed(encoder, "32")
    assert found.readable.tolist() == [True] * 4 + [False, True] and not found.features[4].any()


def test_a_truncated_file_is_not_trusted_and_the_oldest_go_first(
    encoder: VisionEncoder, class_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = read_class_folders(class_folders)
    key = hidden_states_key(encoder, table.items, views=2, augmentation=Augmentation(), seed=3, precision="32")
    made = make(encoder, class_folders, tmp_path)
    with made.path.open("r+b") as file:
        file.truncate(100)
    with pytest.warns(UserWarning, match="damaged"):
        assert stored_hidden_states(tmp_path, key, 1) is None
    made = make(encoder, class_folders, tmp_path)
    monkeypatch.setattr(hidden_states_store, "MAX_BYTES", made.path.stat().st_size)
    other = make(encoder, class_folders, tmp_path, views=1)
    assert other.path.exists() and not made.path.exists()


def test_no_flipped_bit_of_a_trunk_or_its_note_is_served(
    encoder: VisionEncoder, class_folders: Path, tmp_path: Path
) -> None:
    table = read_class_folders(class_folders)
    key = hidden_states_key(encoder, table.items, views=2, augmentation=Augmentation(), seed=3, precision="32")
    made = make(encoder, class_folders, tmp_path)
    assert stored_hidden_states(tmp_path, key, 1) is not None
    generator = np.random.default_rng(0)
    for file in (made.path, made.path.with_suffix(".json")):
        whole = file.read_bytes()
        for place in generator.integers(0, len(whole), 60):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << int(generator.integers(8))
            file.write_bytes(damaged)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = stored_hidden_states(tmp_path, key, 1)
            # White space in the note may change to other white space: nothing that is read depends on it.
            assert found is None or (file != made.path and json.loads(damaged) == json.loads(whole))
        file.write_bytes(whole)
        assert stored_hidden_states(tmp_path, key, 1) is not None


def test_a_damaged_trunk_is_told_and_made_anew(config: TrainConfig, tmp_path: Path) -> None:
    whole = train(config).path
    trunks = sorted((default_cache_path().parent / "trunks").glob("*.bin"))
    assert trunks
    for trunk in trunks:
        data = bytearray(trunk.read_bytes())
        data[len(data) // 2 + 3] ^= 64  # an exponent's bit
        trunk.write_bytes(data)
    with pytest.warns(UserWarning, match=r"\.bin: the stored frozen trunk is damaged; it is computed anew"):
        again = train(dataclasses.replace(config, output=tmp_path / "again")).path
    assert (whole / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        train(dataclasses.replace(config, output=tmp_path / "third"))
