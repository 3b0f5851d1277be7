"""Memory that is short: real allocations that the machine refuses, in an encoder that takes too much for large batches."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from episodes import read_class_folders
from episodes.errors import DataError
from fewshot.embedding.cache import EmbeddingCache
from fewshot.embedding.embed import embed_images
from fewshot.embedding.hidden_states import hidden_states_key
from fewshot.embedding.hidden_states_compute import compute_hidden_states
from fewshot.embedding.out_of_memory import Pieces, is_out_of_memory
from fewshot.encoders import load_encoder
from fewshot.encoders.base import VisionEncoder
from fewshot.images.augmented_views import PictureSource

IMPOSSIBLE = 1 << 50  # bytes: beyond what any machine can address


def hungry(most: int) -> VisionEncoder:
    """tiny, but batches of more than `most` pictures ask for a petabyte."""
    encoder = load_encoder("tiny")

    def before(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if len(inputs[0]) > most:
            torch.empty(IMPOSSIBLE, dtype=torch.uint8)

    encoder.visual.ln_post.register_forward_pre_hook(before)
    return encoder


def test_what_torch_says_is_known() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(IMPOSSIBLE, dtype=torch.uint8)
    assert is_out_of_memory(refused.value) and is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes do not fit")) and not is_out_of_memory(ValueError("out of memory"))


@pytest.mark.parametrize(("most", "tried"), [(7, [16, 8, 4, 4, 4, 4]), (1, [16, 8, 4, 2, *[1] * 16]), (16, [16])])
def test_pieces_become_smaller_until_they_fit(most: int, tried: list[int]) -> None:
    sizes: list[int] = []
    told: list[int] = []

    def double(batch: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch))
        return 2 * batch if len(batch) <= most else torch.empty(IMPOSSIBLE, dtype=torch.uint8)

    pieces, batch = Pieces(16, told.append), torch.arange(16.0)
    assert torch.equal(pieces.run(double, batch), 2 * batch) and sizes == tried
    assert told == [size for size in (8, 4, 2, 1) if size in tried]
    del sizes[:]
    assert torch.equal(pieces.run(double, batch), 2 * batch) and set(sizes) == {tried[-1]}  # it has learnt


def test_what_does_not_fit_at_all_is_refused() -> None:
    def never(batch: torch.Tensor) -> torch.Tensor:
        return torch.empty(IMPOSSIBLE, dtype=torch.uint8)

    with pytest.raises(DataError, match="too short for a batch of 1 "):
        Pieces(4, lambda size: None).run(never, torch.zeros(4))
    with pytest.raises(DataError, match="too short for a batch of 4 "):
        Pieces(4, None).run(never, torch.zeros(4))

    def other(batch: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        Pieces(4, lambda size: None).run(other, torch.zeros(4))


def test_pictures_are_embedded_in_smaller_batches_and_not_cached(class_folders: Path, tmp_path: Path) -> None:
    items, cache = read_class_folders(class_folders).items, EmbeddingCache(tmp_path / "cache.sqlite")
    expected = embed_images(load_encoder("tiny"), items, precision="32").features
    with pytest.warns(UserWarning, match="memory is short: going on with (16|8|4) pictures a batch") as told:
        found = embed_images(hungry(7), items, precision="32", batch_size=32, cache=cache)
    assert len(told) == 3
    assert bool(found.readable.all()) and torch.allclose(found.features, expected, atol=1e-5)
    assert cache.info().entries == 0  # bits of another batch shape never pass for those of this one
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = embed_images(load_encoder("tiny"), items, precision="32", cache=cache)
    assert torch.equal(again.features, expected) and cache.info().entries == len(items)


def test_hidden_states_are_never_of_another_batch_shape(class_folders: Path, tmp_path: Path) -> None:
    def before(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if len(inputs[0]) > 1:
            torch.empty(IMPOSSIBLE, dtype=torch.uint8)

    encoder, items = load_encoder("tiny"), read_class_folders(class_folders).items
    encoder.blocks[0].attn.out_proj.register_forward_pre_hook(before)
    key = hidden_states_key(encoder, items, precision="32")
    with pytest.raises(DataError, match="memory is too short for a batch of"):
        compute_hidden_states(tmp_path, key, 1, encoder, PictureSource(items, encoder.image_size, None))
    assert not list(tmp_path.glob("*.json"))
