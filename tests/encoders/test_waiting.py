"""Encoders of open_clip and timm wait for a picture that is not cached: not even their library is imported before."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from episodes.errors import DataError
from fewshot.embedding.cache import EmbeddingCache
from fewshot.embedding.deferred import DeferredEncoder
from fewshot.embedding.embed import embed_images
from fewshot.encoders import load_encoder
from fewshot.opening import open_backbone
from tests.encoders.conftest import put

pytest.importorskip("timm")
pytest.importorskip("open_clip")
CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["timm:test_resnet", "open_clip:tiny-vit/random"])
def test_it_waits_and_answers_as_if_it_had_been_loaded(
    name: str, timm_root: Callable[[str], Path], open_clip_models: Path, other_folders: Path
) -> None:
    root = timm_root(name[5:]) if name.startswith("timm:") else open_clip_models
    pictures, cache = sorted(other_folders.rglob("*.png"))[:5], EmbeddingCache()
    first = embed_images(open_backbone(name, CPU, root, cache), pictures, cache=cache)
    waiting = open_backbone(name, CPU, root, cache)
    assert (
        isinstance(waiting, DeferredEncoder)
        and waiting.fingerprint == load_encoder(name, download_root=root).fingerprint
    )
    assert embed_images(waiting, pictures, cache=cache).computed == 0
    assert torch.equal(embed_images(waiting, pictures).features, first.features)
    code = (
        "import sys, torch; from pathlib import Path; from fewshot.embedding.cache import EmbeddingCache\n"
        "from fewshot.opening import open_backbone\n"
        f"found = open_backbone({name!r}, torch.device('cpu'), Path({str(root)!r}), EmbeddingCache())\n"
        "print(found.fingerprint, sorted({'timm', 'open_clip', 'torchvision'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1) == [waiting.fingerprint, "[]\n"]


def test_a_newer_download_is_what_counts(timm_root: Callable[[str], Path], tmp_path: Path) -> None:
    """The file is looked for in every run; only where it is published is noted."""
    name, cache = "timm:test_resnet", EmbeddingCache()
    root = Path(shutil.copytree(timm_root("test_resnet"), tmp_path / "root"))
    (place,) = root.glob("models--*test_resnet*/snapshots/*/model.safetensors")
    before = open_backbone(name, CPU, root, cache).fingerprint
    other = tmp_path / "other.safetensors"
    data = bytearray(place.read_bytes())
    data[-4:] = b"\0\0\0\0"
    other.write_bytes(bytes(data))
    repository = place.parents[2].name.removeprefix("models--").replace("--", "/")
    put(root, repository, other, "model.safetensors")
    assert (
        open_backbone(name, CPU, root, cache).fingerprint
        == load_encoder(name, download_root=root).fingerprint
        != before
    )
    shutil.rmtree(root)
    with pytest.raises(DataError, match="fewshot download --model_name timm:test_resnet"):
        open_backbone(name, CPU, root, cache)
