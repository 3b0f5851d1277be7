"""An encoder that waits until it must compute: the same answers, no loading where all is cached, no flipped bit unnoticed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch

from episodes import DataError
from fewshot.commands.cli import main
from fewshot.embedding import file_digest
from fewshot.embedding.cache import EmbeddingCache
from fewshot.embedding.deferred import DeferredEncoder, defer, opened
from fewshot.embedding.embed import embed_images
from fewshot.encoders import VisionEncoder, load_encoder
from fewshot.opening import DeferredCheckpoint, open_backbone

CPU = torch.device("cpu")


@pytest.fixture
def weights(vit_file: Path, tmp_path: Path) -> Path:
    """A copy to be changed."""
    return Path(shutil.copy(vit_file, tmp_path / "weights.pt"))


@pytest.fixture
def pictures(other_folders: Path) -> list[Path]:
    return sorted(other_folders.rglob("*.png"))[:12]


def same_times(path: Path, data: bytes) -> None:
    """Other bytes in the same file, of the same size and with the same times: only the bytes tell."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_it_is_loaded_once_and_then_only_where_it_must_compute(weights: Path, pictures: list[Path]) -> None:
    loads = []

    def load() -> VisionEncoder:
        loads.append(1)
        return load_encoder(str(weights))

    cache = EmbeddingCache()
    first = embed_images(defer("file", [weights], CPU, load, cache), pictures, cache=cache)
    again = defer("file", [weights], CPU, load, cache)
    assert (again.embed_dim, again.image_size, again.fingerprint) == (32, 32, load_encoder(str(weights)).fingerprint)
    second = embed_images(again, pictures[::-1], cache=cache)
    assert len(loads) == 1 and second.computed == 0 and torch.equal(second.features.flip(0), first.features)
    fresh = pictures[0].parent.parent / "class27" / "08.png"
    third = embed_images(again, [fresh], cache=cache)
    assert len(loads) == 2 and third.computed == 1
    assert torch.equal(third.features, embed_images(load_encoder(str(weights)), [fresh]).features)
    assert defer("file", [weights], CPU, load, None).__class__ is not DeferredEncoder and len(loads) == 3


def test_no_flipped_bit_is_served_from_what_was_known(weights: Path, pictures: list[Path]) -> None:
    cache = EmbeddingCache()
    whole = weights.read_bytes()
    known = embed_images(open_backbone(str(weights), CPU, None, cache), pictures, cache=cache)
    place = whole.index(load_encoder(str(weights)).state_dict()["visual.positional_embedding"].numpy().tobytes()[:64])
    for offset in (2, 3, 30, 63):
        changed = bytearray(whole)
        changed[place + offset] ^= 32
        same_times(weights, bytes(changed))
        try:
            encoder = open_backbone(str(weights), CPU, None, cache)
        except DataError:
            continue  # torch's reader has its own check of the archive
        found = embed_images(encoder, pictures, cache=cache)
        assert found.computed == len(pictures) and not torch.equal(found.features, known.features)
        assert torch.equal(found.features, embed_images(load_encoder(str(weights)), pictures).features)
    same_times(weights, whole)
    assert embed_images(open_backbone(str(weights), CPU, None, cache), pictures, cache=cache).computed == 0


def test_a_checkpoint_waits_too_and_its_damage_is_told(tiny_run: Path, pictures: list[Path]) -> None:
    cache = EmbeddingCache()
    first = embed_images(DeferredCheckpoint(tiny_run, CPU, cache).encoder, pictures, cache=cache)
    waiting = DeferredCheckpoint(tiny_run, CPU, cache)
    assert embed_images(waiting.encoder, pictures, cache=cache).computed == 0
    assert "opened" not in vars(waiting) and waiting.backbone == "tiny"
    assert torch.equal(embed_images(opened(waiting.encoder), pictures).features, first.features)
    assert waiting.tuned == waiting.opened.tuned and set(waiting.calibration) == set(waiting.opened.calibration)
    model = tiny_run / "model.safetensors"
    data = bytearray(model.read_bytes())
    data[-5] ^= 4
    same_times(model, bytes(data))
    with pytest.raises(DataError, match="the file is damaged"):
        DeferredCheckpoint(tiny_run, CPU, cache)


def test_several_together_wait_each_by_itself(
    vit_file: Path, weights: Path, resnet_file: Path, pictures: list[Path]
) -> None:
    cache = EmbeddingCache()
    shutil.copy(resnet_file, weights)
    name = f"{vit_file}+{weights}"
    first = embed_images(open_backbone(name, CPU, None, cache), pictures, cache=cache)
    waiting = open_backbone(name, CPU, None, cache)
    whole = load_encoder(name)
    assert [type(part) for part in waiting.parts] == [DeferredEncoder, DeferredEncoder]
    assert (waiting.name, waiting.embed_dim, waiting.image_size) == (name, whole.embed_dim, whole.image_size)
    assert waiting.fingerprint == whole.fingerprint
    weights.unlink()  # whoever needs it again fails
    second = embed_images(waiting, pictures, cache=cache)
    assert second.computed == 0 and torch.equal(second.features, first.features)
    assert torch.equal(embed_images(whole, pictures).features, first.features)


def test_a_damaged_note_counts_as_none(weights: Path) -> None:
    cache = EmbeddingCache()
    assert opened(open_backbone(str(weights), CPU, None, cache)).embed_dim == 32
    with closing(sqlite3.connect(cache.path, isolation_level=None)) as connection:
        (value,) = connection.execute("SELECT value FROM notes").fetchone()
        connection.execute("UPDATE notes SET value = ?", (value.replace(b'"embed_dim": 32', b'"embed_dim": 16'),))
    assert open_backbone(str(weights), CPU, None, cache).embed_dim == 32


def test_weights_that_change_between_hashing_and_loading_are_refused(weights: Path, resnet_file: Path) -> None:
    cache = EmbeddingCache()
    open_backbone(str(weights), CPU, None, cache)
    waiting = open_backbone(str(weights), CPU, None, cache)
    shutil.copy(resnet_file, weights)
    with pytest.raises(DataError, match="changed while they were being read"):
        opened(waiting)


def test_a_warm_predict_imports_what_it_uses(
    vit_file: Path, other_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    support, picture = tmp_path / "support", sorted(other_folders.rglob("*.png"))[-1]
    for folder in sorted(other_folders.iterdir())[:2]:
        shutil.copytree(folder, support / folder.name)
    words = ["predict", "--support", support, "--backbone", vit_file, "--query", picture, tmp_path / "a.csv"]
    texts = [str(word) for word in words]
    assert main(texts) == 0
    heavy = {
        "pandas",
        "sklearn",
        "scipy",
        "torchvision",
        "torch._dynamo",
        "clip",
        "clip.model",
        "timm",
        "matplotlib",
        "lightning",
    }
    code = (
        "import sys; from fewshot.commands.cli import main\n"
        f"assert main({[*texts[:-1], str(tmp_path / 'b.csv')]!r}) == 0\n"
        f"print(sorted({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_every_byte_counts_whatever_the_times_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_digest, "_PART", 1 << 20)
    path, data = tmp_path / "file", bytearray(os.urandom((5 << 20) // 2))
    path.write_bytes(data)
    seen = {file_digest.fresh_digest(path)}
    for place in (0, 1 << 20, (2 << 20) - 1, len(data) - 1):
        data[place] ^= 1
        same_times(path, bytes(data))
        seen.add(file_digest.fresh_digest(path))
    path.write_bytes(data[1 << 20 :] + data[: 1 << 20])
    seen.add(file_digest.fresh_digest(path))
    assert len(seen) == 6
