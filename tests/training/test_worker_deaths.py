"""A loading process that dies takes the run with it, but says over which picture."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from episodes import EpisodeSampler, read_class_folders
from episodes.decoding import read_bytes
from episodes.errors import DataError
from fewshot.embedding.hidden_states import hidden_states_key
from fewshot.embedding.hidden_states_compute import compute_hidden_states
from fewshot.encoders import load_encoder
from fewshot.images.augmented_views import PictureSource
from fewshot.images.reading_board import ReadingBoard
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


@pytest.mark.parametrize("broken", [EOFError(), ConnectionResetError("reset"), FileNotFoundError("socket")])
def test_a_death_while_its_pictures_are_fetched_is_named_too(broken: Exception) -> None:
    """The connection over which they come breaks first: torch has not said a word yet."""
    board, context = ReadingBoard(2), multiprocessing.get_context("fork")
    halt = context.Event()
    living, dying = context.Process(target=halt.wait), context.Process(target=os._exit, args=(9,))
    living.start()
    dying.start()
    board._board.copy_(torch.tensor([[living.pid, 0], [dying.pid, 1]]))
    try:
        with (
            pytest.raises(DataError, match=rf"DataLoader worker \(pid\(s\) {dying.pid}\) .* was reading b.png: "),
            board.naming_deaths(["a.png", "b.png"]),
        ):
            raise broken
        with pytest.raises(type(broken)), ReadingBoard(2).naming_deaths(["a.png"]):
            raise broken
    finally:
        halt.set()
        living.join()
