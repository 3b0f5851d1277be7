"""Small real things that many tests need: CLIP weights in OpenAI's format, class folders, a task directory."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fewshot.config import TrainConfig
from fewshot.encoders._clip_import import import_clip_model
from tests.browsing import browser

__all__ = ["browser"]  # a fixture


def pytest_configure() -> None:
    """Tests that run side by side (`pytest -n`) use a thread each: threads that wait for each other would wait for other tests too."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache of embeddings."""
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path_factory.mktemp("cache")))


def make_clip(
    *, layers: object = 2, width: int = 64, image: int = 32, patch: int | None = 8, embed: int = 32
) -> object:
    """A CLIP model of the `clip` package with random weights, rounded as OpenAI's releases are."""
    model = import_clip_model()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clip = model.CLIP(embed, image, layers, width, patch, 77, 100, 64, 1, 1)
        for module in clip.modules():  # fresh batch norms would hide a wrong statistic
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.data.uniform_(0.5, 1.5)
    model.convert_weights(clip)
    return clip.eval()


@pytest.fixture(scope="session")
def vit_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain state dict in OpenAI's format: a vision transformer of 2 blocks for 32 x 32 pictures."""
    path = tmp_path_factory.mktemp("weights") / "vit.pt"
    torch.save(make_clip().state_dict(), path)
    return path


@pytest.fixture(scope="session")
def resnet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain state dict in OpenAI's format: a small ResNet of 5 bottlenecks for 64 x 64 pictures."""
    path = tmp_path_factory.mktemp("weights") / "resnet.pt"
    clip = make_clip(layers=(1, 1, 2, 1), width=8, image=64, patch=None)
    torch.save(clip.state_dict(), path)
    return path


def write_pictures(
    root: Path, classes: int, images: int, *, size: int = 40, seed: int = 0, offset: int = 0, spread: float = 40
) -> Path:
    """Class folders whose classes differ in colour and stripes, and whose pictures differ more: neither easy nor hopeless."""
    generator = np.random.default_rng(seed)
    for label in range(offset, offset + classes):
        folder = root / f"class{label:02d}"
        folder.mkdir(parents=True)
        tone = np.random.default_rng(label).uniform(90, 165, 3)
        for i in range(images):
            pixels = np.tile(tone + generator.normal(0, spread, 3), (size, size, 1))
            pixels += generator.normal(0, 25, pixels.shape)
            pixels[generator.integers(4) :: 2 + label % 5] *= 0.7
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i:02d}.png")
    return root


@pytest.fixture(scope="session")
def class_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve classes of ten pictures; treat it as read-only."""
    return write_pictures(tmp_path_factory.mktemp("pictures") / "train", 12, 10)


@pytest.fixture(scope="session")
def other_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight other classes of ten pictures; treat it as read-only."""
    return write_pictures(tmp_path_factory.mktemp("pictures") / "other", 8, 10, seed=1, offset=20)


@pytest.fixture
def small_run(vit_file: Path, class_folders: Path, other_folders: Path, tmp_path: Path) -> TrainConfig:
    """Settings of a run of seconds on the little transformer."""
    return TrainConfig(
        train_data=class_folders,
        val_data=other_folders,
        output=tmp_path / "run",
        backbone=str(vit_file),
        unfreeze_blocks=1,
        epochs=2,
        batch_size=24,
        queries=2,
        visual_lr=1e-3,
        val_queries=4,
        val_episodes=40,
        workers=0,
        precision="32",
        quiet=True,
    )


@pytest.fixture(scope="session")
def tiny_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of tiny with other seeds, `a` and `b`; treat them as read-only."""
    root = tmp_path_factory.mktemp("runs")
    from fewshot.training import train

    previous, os.environ["FEWSHOT_CACHE"] = os.environ.get("FEWSHOT_CACHE"), str(root / "cache")
    try:
        data, val = write_pictures(root / "train", 4, 6), write_pictures(root / "val", 4, 6, seed=1, offset=20)
        settings: dict[str, Any] = {"train_data": data, "val_data": val, "backbone": "tiny", "unfreeze_blocks": 1}
        settings |= {"epochs": 1, "batch_size": 16, "queries": 1, "val_queries": 2, "val_episodes": 20, "workers": 0}
        for seed, name in enumerate("ab"):
            train(TrainConfig(**settings, output=root / name, seed=seed, precision="32", quiet=True, visual_lr=1e-3))
    finally:
        if previous is None:
            del os.environ["FEWSHOT_CACHE"]
        else:
            os.environ["FEWSHOT_CACHE"] = previous
    return root


@pytest.fixture
def tiny_run(tiny_runs: Path, tmp_path: Path) -> Path:
    """A copy of run `a` to be broken."""
    return Path(shutil.copytree(tiny_runs / "a", tmp_path / "run"))


@pytest.fixture
def data_root() -> Path:
    """The real image sets, for tests marked `data`."""
    root = os.environ.get("FEWSHOT_DATA")
    if not root:
        pytest.skip("set FEWSHOT_DATA to the folder that shared/data/unpack.py made")
    return Path(root)
