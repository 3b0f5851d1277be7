"""Embeddings: once a picture, the same bits in any company, and a cache that can be trusted or does without."""

from __future__ import annotations

import io
import multiprocessing
import os
import shutil
import sqlite3
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from episodes.errors import DataError
from fewshot.embedding.batches import FixedShapeBatches, embed_pictures
from fewshot.embedding.cache import EmbeddingCache
from fewshot.embedding.embed import embed_images
from fewshot.encoders import VisionEncoder, load_encoder


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    """Batches overlap also where `pytest -n` gives every test one thread."""
    usual = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(usual)


@pytest.fixture
def encoder(vit_file: Path) -> VisionEncoder:
    return load_encoder(str(vit_file))


@pytest.fixture
def paths(class_folders: Path) -> list[Path]:
    return sorted(class_folders.rglob("*.png"))[:50]


class Counting(torch.nn.Module):
    """Counts the pictures that pass through an encoder's stem."""

    def __init__(self, encoder: VisionEncoder) -> None:
        super().__init__()
        self.batches: list[int] = []
        encoder.register_forward_pre_hook(lambda module, args: self.batches.append(len(args[0])))


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_an_embedding_does_not_depend_on_its_neighbours(
    encoder: VisionEncoder, paths: list[Path], precision: str
) -> None:
    whole = embed_images(encoder, paths, precision=precision, batch_size=16).features  # type: ignore[arg-type]
    order = np.random.default_rng(0).permutation(len(paths))
    mixed = embed_images(encoder, [paths[i] for i in order], precision=precision, batch_size=16, workers=3)  # type: ignore[arg-type]
    assert torch.equal(mixed.features, whole[order])
    alone = embed_images(encoder, [paths[7]], precision=precision, batch_size=16)  # type: ignore[arg-type]
    assert torch.equal(alone.features[0], whole[7])


def test_weights_changed_between_two_calls_count(encoder: VisionEncoder, paths: list[Path]) -> None:
    """Inference runs on a cast copy of the weights: it must be made anew for every call."""
    before = embed_images(encoder, paths[:5], precision="bf16").features
    encoder.visual.proj.data.mul_(-1)  # past autograd's version counter
    assert torch.allclose(embed_images(encoder, paths[:5], precision="bf16").features, -before, atol=1e-6)


def test_threads_are_as_many_as_before(encoder: VisionEncoder, paths: list[Path]) -> None:
    threads = torch.get_num_threads()
    embed_images(encoder, paths, batch_size=4)
    assert torch.get_num_threads() == threads


def test_every_batch_has_the_one_shape_and_repeated_bytes_are_encoded_once(
    encoder: VisionEncoder, paths: list[Path], tmp_path: Path
) -> None:
    copies = [Path(shutil.copy(path, tmp_path / f"copy-{path.parent.name}-{path.name}")) for path in paths[:30]]
    counting = Counting(encoder)
    found = embed_images(encoder, [*paths, *copies, paths[3]], batch_size=16)
    assert counting.batches == [16, 16, 16, 16] and found.computed == 50
    assert torch.equal(found.features[50:80], found.features[:30]) and torch.equal(
        found.features[80], found.features[3]
    )


def test_unreadable_pictures_are_told_with_their_reason(
    encoder: VisionEncoder, paths: list[Path], tmp_path: Path
) -> None:
    broken, missing = tmp_path / "broken.png", tmp_path / "missing.png"
    broken.write_bytes(b"no picture")
    twin = Path(shutil.copy(broken, tmp_path / "twin.png"))
    found = embed_images(encoder, [paths[0], broken, missing, twin, paths[1]])
    assert found.readable.tolist() == [True, False, False, False, True]
    assert set(found.problems) == {1, 2, 3} and "FileNotFoundError" in found.problems[2]
    assert found.problems[1] == found.problems[3]
    assert not found.features[1:4].any()


def test_no_pictures_is_an_error(encoder: VisionEncoder) -> None:
    with pytest.raises(DataError, match="no pictures"):
        embed_images(encoder, [])


def test_cache_gives_the_same_bits_and_computes_nothing(
    encoder: VisionEncoder, paths: list[Path], tmp_path: Path
) -> None:
    cache = EmbeddingCache(tmp_path / "cache.sqlite")
    cold = embed_images(encoder, paths, cache=cache)
    warm = embed_images(encoder, paths, cache=EmbeddingCache(tmp_path / "cache.sqlite"))
    assert cold.computed == 50 and warm.computed == 0
    assert torch.equal(cold.features, warm.features)
    assert torch.equal(cold.features, embed_images(encoder, paths).features)


def test_cache_never_meets_another_encoder_precision_or_picture(
    encoder: VisionEncoder, paths: list[Path], tmp_path: Path
) -> None:
    cache = EmbeddingCache(tmp_path / "cache.sqlite")
    picture = Path(shutil.copy(paths[0], tmp_path / "picture.png"))
    embed_images(encoder, [picture], cache=cache, precision="32")
    assert embed_images(encoder, [picture], cache=cache, precision="32").computed == 0
    assert embed_images(encoder, [picture], cache=cache, precision="bf16").computed == 1
    assert embed_images(encoder, [picture], cache=cache, precision="32", batch_size=5).computed == 1
    stat = picture.stat()
    picture.write_bytes(paths[20].read_bytes())  # other content under the old name and time
    os.utime(picture, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert embed_images(encoder, [picture], cache=cache, precision="32").computed == 1
    with torch.no_grad():
        encoder.visual.proj[0, 0] += 1e-3
    assert embed_images(encoder, [picture], cache=cache, precision="32").computed == 1


def test_a_cached_value_of_another_length_is_computed_anew(
    encoder: VisionEncoder, paths: list[Path], tmp_path: Path
) -> None:
    cache = EmbeddingCache(tmp_path / "cache.sqlite")
    whole = embed_images(encoder, paths, cache=cache)
    connection = sqlite3.connect(tmp_path / "cache.sqlite")
    keys = [key for (key,) in connection.execute("SELECT key FROM embeddings ORDER BY key LIMIT 2")]
    for key, value in zip(keys, (b"abc", b"abcd"), strict=True):
        connection.execute("UPDATE embeddings SET value = ? WHERE key = ?", (value, key))
    connection.commit()
    connection.close()
    with pytest.warns(UserWarning, match="damaged entries"):
        again = embed_images(encoder, paths, cache=EmbeddingCache(tmp_path / "cache.sqlite"))
    assert again.computed == 2 and torch.equal(again.features, whole.features)


class Watched(bytes):
    """Bytes that count how many of them there are at a time."""

    now = most = 0

    def __init__(self, _: bytes) -> None:
        Watched.now += 1
        Watched.most = max(Watched.most, Watched.now)

    def __del__(self) -> None:
        Watched.now -= 1


def test_large_files_are_decoded_before_many_are_held(encoder: VisionEncoder) -> None:
    def read(item: int) -> bytes:  # 12 MB each: a thread may hold two, not thirty-two
        buffer = io.BytesIO()
        Image.new("RGB", (2000, 2000), (item, 0, 0)).save(buffer, "BMP")
        return Watched(buffer.getvalue())

    found = embed_images(encoder, list(range(150)), workers=1, read=read)
    assert found.computed == 150 and 1 <= Watched.most <= 4


def test_batches_that_overlap_leave_the_usual_number_of_threads(encoder: VisionEncoder) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        kept: list[Tensor] = []
        picture = torch.zeros(3, encoder.image_size, encoder.image_size, dtype=torch.uint8)
        with FixedShapeBatches(encoder, embed_pictures, lambda _, v: kept.append(v), size=2, expected=9) as outer:
            outer.add(0, picture)
            inner = FixedShapeBatches(encoder, embed_pictures, lambda _, v: kept.append(v), size=2, expected=9)
            assert inner._workers == outer._workers == 3
            with ThreadPoolExecutor(1) as pool:  # begun inside, ended outside
                pool.submit(inner.__enter__).result()
                pool.submit(inner.add, 0, picture).result()
                with (
                    pytest.raises(KeyError),
                    FixedShapeBatches(encoder, embed_pictures, lambda _, v: None, size=2, expected=2),
                ):
                    raise KeyError
                pool.submit(inner.__exit__, None, None, None).result()
        assert torch.get_num_threads() == 3 and len(kept) == 2
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 3
    finally:
        torch.set_num_threads(before)


def test_a_corrupt_cache_degrades_to_computing_with_one_warning(
    encoder: VisionEncoder, paths: list[Path], tmp_path: Path
) -> None:
    file = tmp_path / "cache.sqlite"
    file.write_bytes(b"this is not a database" * 100)
    with pytest.warns(UserWarning, match="fewshot cache clear") as caught:
        found = embed_images(encoder, paths, cache=EmbeddingCache(file))
    assert found.computed == 50 and len(caught) == 1
    EmbeddingCache(file).clear()
    assert embed_images(encoder, paths, cache=EmbeddingCache(file)).computed == 50
    assert embed_images(encoder, paths, cache=EmbeddingCache(file)).computed == 0


def test_a_cache_that_cannot_be_written_degrades(encoder: VisionEncoder, paths: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.warns(UserWarning, match="cannot be used"):
        assert embed_images(encoder, paths, cache=EmbeddingCache(tmp_path / "file" / "cache.sqlite")).computed == 50


def test_a_locked_cache_is_read_but_not_waited_for_forever(tmp_path: Path) -> None:
    file = tmp_path / "cache.sqlite"
    cache = EmbeddingCache(file, timeout=0.05)
    cache.put({b"a": np.ones(3, dtype=np.float32)})
    other = sqlite3.connect(file)
    other.execute("BEGIN IMMEDIATE")
    with pytest.warns(UserWarning, match="locked"):
        cache.put({b"b": np.ones(3, dtype=np.float32)})
    other.close()


def _fill(file: str, start: int) -> None:
    cache = EmbeddingCache(file)
    for i in range(start, start + 50):
        cache.put({f"{i}".encode(): np.full(4, i, dtype=np.float32)})
    cache.close()


def test_several_processes_share_the_cache(tmp_path: Path) -> None:
    file = tmp_path / "cache.sqlite"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_fill, args=(str(file), start)) for start in (0, 25, 100)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    cache = EmbeddingCache(file)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for i in [*range(75), *range(100, 150)]:
            value = cache.get(f"{i}".encode())
            assert value is not None and value.tolist() == [i] * 4
    assert cache.info().entries == 125


def test_eviction_drops_what_was_longest_unused(tmp_path: Path) -> None:
    file = tmp_path / "cache.sqlite"
    cache = EmbeddingCache(file, max_bytes=50 * (400 + 64))
    cache.put({bytes([i]): np.full(100, i, dtype=np.float32) for i in range(100)})
    connection = sqlite3.connect(file)
    connection.execute("UPDATE embeddings SET used = used - 5")  # as if written five days ago
    connection.commit()
    connection.close()
    for i in range(20):
        assert cache.get(bytes([i])) is not None
    cache.note_use()
    assert cache.evict() >= 50
    assert all(cache.get(bytes([i])) is not None for i in range(20))
    assert cache.info().entries <= 50 and cache.evict() == 0


class Partial(VisionEncoder):
    """Means of quarters of the picture; of bright pictures it makes `value`, as overflowing arithmetic would."""

    def __init__(self, value: float, bright: float) -> None:
        super().__init__()
        self.name, self.embed_dim, self.image_size = "partial", 12, 32
        self.blocks = [torch.nn.Identity()]
        self.unused = torch.nn.Parameter(torch.zeros(1))
        self.value, self.bright = value, bright

    def _stem(self, images: Tensor) -> Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)

    def _head(self, hidden: Tensor) -> Tensor:
        return hidden.where(hidden.mean(1, keepdim=True) < self.bright, self.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_a_picture_without_a_usable_embedding_is_unreadable_and_not_cached(
    paths: list[Path], tmp_path: Path, value: float
) -> None:
    cache = EmbeddingCache(tmp_path / "cache.sqlite")
    twin = Path(shutil.copy(paths[0], tmp_path / "twin.png"))
    whole = embed_images(Partial(value, bright=1e9), [*paths, twin])
    found = embed_images(Partial(value, bright=0.0), [*paths, twin], cache=cache)
    good = found.readable
    assert 5 < int(good.sum()) < 46 and good[50] == good[0]
    assert torch.equal(found.features[good], whole.features[good]) and not found.features[~good].any()
    assert sorted(found.problems) == (~good).nonzero().flatten().tolist()
    assert all("no usable embedding" in problem for problem in found.problems.values())
    assert cache.info().entries == int(good[:50].sum())
    with pytest.raises(DataError, match=r"none of the 50 pictures .* --precision 32"):
        embed_images(Partial(value, bright=-1e9), paths)
