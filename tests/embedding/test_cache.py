"""The cache of embeddings whatever happens to its file: never a wrong value, never a failure, one warning at most."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import sqlite3
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from episodes.errors import DataError
from fewshot.embedding.cache import EmbeddingCache

Values = dict[bytes, npt.NDArray[np.float32]]


def values(count: int = 60, width: int = 32, seed: int = 0) -> Values:
    """Keys as long as real ones, and vectors of which no two share a number."""
    generator = np.random.default_rng(seed)
    return {generator.bytes(52): generator.normal(size=width).astype(np.float32) for _ in range(count)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A cache of 60 embeddings in one file, closed."""
    path = tmp_path / "cache.sqlite"
    with contextlib.closing(EmbeddingCache(path)) as cache:
        cache.put(values())
    return path


def served(path: Path, expected: Values) -> tuple[int, list[str]]:
    """How many of the values the cache still gives, after proof that each is the right one; and what it warned of."""
    cache = EmbeddingCache(path)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = cache.get_many(list(expected))
        for key, vector in found.items():
            assert np.array_equal(vector, expected[key])
        cache.put({key: vector for key, vector in expected.items() if key not in found})
        cache.note_use()
        cache.evict()
        cache.info()
        for key, vector in cache.get_many(list(expected)).items():
            assert np.array_equal(vector, expected[key])
        cache.close()
    assert len(told) <= 2  # damaged entries, and a file that is of no use
    return len(found), [str(warning.message) for warning in told]


def flip(path: Path, position: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


def test_no_flipped_bit_gives_another_value(file: Path) -> None:
    whole, expected = file.read_bytes(), values()
    generator = np.random.default_rng(1)
    places = [*range(0, 200, 3), *generator.integers(0, len(whole), 400).tolist()]
    lost = 0
    for place in places:
        file.write_bytes(whole)
        for rest in ("-wal", "-shm"):
            Path(f"{file}{rest}").unlink(missing_ok=True)
        flip(file, place, int(generator.integers(8)))
        lost += served(file, expected)[0] < len(expected)
    assert lost > 50  # the flips did reach values


def test_a_flipped_value_is_told_once_computed_anew_and_replaced(file: Path) -> None:
    expected = values()
    key, vector = next(iter(expected.items()))
    place = file.read_bytes().find(vector.tobytes())
    assert place > 0
    flip(file, place + 5, 3)
    cache = EmbeddingCache(file)
    with pytest.warns(UserWarning, match=r"cache\.sqlite holds damaged entries") as told:
        assert cache.get(key) is None and cache.get(key) is None
    assert len(told) == 1
    cache.put({key: vector})
    cache.close()
    assert served(file, expected) == (60, [])


def test_a_value_under_another_key_is_not_served(file: Path) -> None:
    first, second, *_ = values()
    with contextlib.closing(sqlite3.connect(file)) as connection:
        (stored,) = connection.execute("SELECT value FROM embeddings WHERE key = ?", (second,)).fetchone()
        connection.execute("UPDATE embeddings SET value = ? WHERE key = ?", (stored, first))
        connection.commit()
    with pytest.warns(UserWarning, match="damaged"):
        assert EmbeddingCache(file).get(first) is None


@pytest.mark.parametrize("stored", ["text", 7, 1.5, b"", b"abc", bytes(128 + 9)])
def test_a_stored_value_of_any_kind_is_survived(file: Path, stored: object) -> None:
    expected = values()
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("UPDATE embeddings SET value = ?, used = 'never'", (stored,))
        connection.commit()
    found, told = served(file, expected)
    assert found == 0 and (told or stored == b"")
    assert served(file, expected) == (60, [])


def test_entries_of_an_older_version_are_neither_believed_nor_called_damaged(file: Path) -> None:
    """They held the vector alone: there is nothing to check them by."""
    expected = values()
    with contextlib.closing(sqlite3.connect(file)) as connection:
        rows = [(np.zeros(32, dtype="<f4").tobytes(), key) for key in expected]
        connection.executemany("UPDATE embeddings SET value = ? WHERE key = ?", rows)
        connection.commit()
    assert served(file, expected) == (0, [])
    assert served(file, expected) == (60, [])


def test_an_older_version_passes_over_what_this_one_stores(file: Path) -> None:
    """It took a value whose length is a multiple of 4 bytes; others it computed anew."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        stored = [value for (value,) in connection.execute("SELECT value FROM embeddings")]
    assert len(stored) == 60 and all(len(value) % 4 for value in stored)


@pytest.mark.parametrize("kept", [0, 1, 16, 99, 100, 1000, 4095, 4096, 4097, 8192, 10_000])
def test_a_truncated_file(file: Path, kept: int) -> None:
    file.write_bytes(file.read_bytes()[:kept])
    assert served(file, values())[0] <= 60


@pytest.mark.parametrize("content", ["noise", "picture", "other tables", "other columns"])
def test_another_file_in_its_place(file: Path, content: str) -> None:
    file.unlink()
    if content in ("noise", "picture"):
        file.write_bytes(
            {"noise": np.random.default_rng(0).bytes(9000), "picture": b"\x89PNG\r\n\x1a\n" * 500}[content]
        )
    else:
        table = "embeddings (id INTEGER)" if content == "other columns" else "things (id INTEGER)"
        with contextlib.closing(sqlite3.connect(file)) as connection:
            connection.execute(f"CREATE TABLE {table}")
    assert served(file, values())[0] == 0


def test_a_folder_in_which_its_files_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "cache.sqlite").mkdir()
    (tmp_path / "cache.sqlite/mine.txt").write_text("mine")
    found, told = served(tmp_path / "cache.sqlite", values())
    assert found == 0 and len(told) == 1 and "cannot be used" in told[0]
    assert "cache clear" not in told[0] and "FEWSHOT_CACHE" in told[0]  # what it says is what helps
    with pytest.raises(DataError, match=r"cache\.sqlite is a folder.*move it away"):
        EmbeddingCache(tmp_path / "cache.sqlite").clear()
    assert (tmp_path / "cache.sqlite/mine.txt").read_text() == "mine"


def look_into_a_locked_folder(path: str) -> None:
    """As a user who may not enter it: root may enter every folder."""
    if os.geteuid() == 0:
        os.setuid(65534)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert EmbeddingCache(path).get(b"key") is None
    assert len(told) == 1 and "cannot be used" in str(told[0].message), told


def test_a_folder_that_may_not_be_entered(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o000)
    file = str(locked / "cache.sqlite")
    process = multiprocessing.get_context("spawn").Process(target=look_into_a_locked_folder, args=(file,))
    process.start()
    process.join()
    assert process.exitcode == 0


def fill_a_small_disk(path: str) -> None:
    """No file of this process may grow beyond 200 kB: what a full disk is to SQLite."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    cache = EmbeddingCache(path)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for seed in range(20):
            cache.put(values(seed=seed))
        cache.evict()
    assert len(told) == 1 and "cannot be used" in str(told[0].message), told


def test_a_full_disk(tmp_path: Path) -> None:
    file = tmp_path / "cache.sqlite"
    process = multiprocessing.get_context("spawn").Process(target=fill_a_small_disk, args=(str(file),))
    process.start()
    process.join()
    assert process.exitcode == 0
    total = sum(served(file, values(seed=seed))[0] for seed in range(20))
    assert 60 <= total < 1200  # what was stored before the disk was full is there and right


def use_what_may_not_be_written(folder: str) -> None:
    """As a user who may read and not write: root may write anywhere, so it becomes another user."""
    os.chdir(folder)  # by its full name another user might not reach it
    expected = values()  # loads what numpy needs, while it may be read
    if os.getuid() == 0:
        os.setuid(65534)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        cache = EmbeddingCache("cache.sqlite")
        for key, vector in cache.get_many(list(expected)).items():
            assert np.array_equal(vector, expected[key])
        cache.put({b"new": np.ones(3, dtype=np.float32)})
        cache.note_use()
        cache.evict()
        cache.info()
    assert len(told) == 1 and "cannot be used" in str(told[0].message)


def test_a_read_only_folder(file: Path) -> None:
    file.parent.chmod(0o555)
    file.chmod(0o444)
    process = multiprocessing.get_context("spawn").Process(target=use_what_may_not_be_written, args=(str(file.parent),))
    process.start()
    process.join()
    file.parent.chmod(0o755)
    file.chmod(0o644)
    assert process.exitcode == 0
    assert served(file, values()) == (60, [])


def write_and_read(path: str, seed: int) -> None:
    cache = EmbeddingCache(path, timeout=60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for other in (*range(seed), *range(4)):
            expected = values(seed=other)
            for key, vector in cache.get_many(list(expected)).items():
                assert np.array_equal(vector, expected[key])
            cache.put(expected)
            cache.note_use()
            cache.evict()


def test_many_processes_at_once(tmp_path: Path) -> None:
    file = tmp_path / "cache.sqlite"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=write_and_read, args=(str(file), seed)) for seed in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert all(served(file, values(seed=seed)) == (60, []) for seed in range(4))


def test_a_full_disk_is_told_as_such(tmp_path: Path) -> None:
    """SQLite takes the transaction back by itself there; that it cannot be taken back twice is not what is wrong."""
    cache = EmbeddingCache(tmp_path / "c.sqlite")
    cache._file.connection().execute("PRAGMA max_page_count = 8")
    with pytest.warns(UserWarning, match=r"database or disk is full"):
        cache.put({bytes([number]) * 20: np.ones(512, dtype=np.float32) for number in range(100)})
