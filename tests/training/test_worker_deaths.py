"""A loading process that dies takes the run with it, but says over which picture."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from episodes import EpisodeSampler, read_class_folders
from episodes.errors import DataError
from fewshot.embedding.hidden_states import hidden_states_key
from fewshot.embedding.hidden_states_compute import compute_hidden_states
from fewshot.encoders import load_encoder
from fewshot.images.augmented_views import PictureSource
from fewshot.images.decoding import read_bytes
from fewshot.training.loader import EpisodeLoader

FATAL = os.path.join("class03", "07.png")


def deadly(item: Any) -> bytes:
    """Reading this picture kills the process, as a decoder's fault or the kernel does where memory is short."""
    if str(item).endswith(FATAL):
        os.kill(os.getpid(), signal.SIGKILL)
    return read_bytes(item)


def test_training_names_the_picture(class_folders: Path) -> None:
    sampler = EpisodeSampler(read_class_folders(class_folders), ways=6, shots=2, queries=4, episodes=200)
    loader = EpisodeLoader(sampler, 32, workers=2, read=deadly)
    with (
        pytest.raises(DataError, match=rf"DataLoader worker .*It was reading .*{FATAL}: move that picture away"),
        loader.naming_deaths(),
    ):
        for _ in loader:
            pass


def test_the_trunk_cache_names_the_picture(class_folders: Path, tmp_path: Path) -> None:
    encoder, items = load_encoder("tiny"), read_class_folders(class_folders).items
    key = hidden_states_key(encoder, items, precision="32")
    source = PictureSource(items, encoder.image_size, None, read=deadly)
    with pytest.raises(DataError, match=rf"DataLoader worker .*It was reading .*{FATAL}: "):
        compute_hidden_states(tmp_path, key, 1, encoder, source, workers=1)
    assert not list(tmp_path.iterdir())


def test_other_errors_are_not_touched(class_folders: Path) -> None:
    sampler = EpisodeSampler(read_class_folders(class_folders), ways=2, shots=1, queries=1, episodes=2)
    with pytest.raises(RuntimeError, match="shapes"), EpisodeLoader(sampler, 32).naming_deaths():
        raise RuntimeError("shapes do not fit")
