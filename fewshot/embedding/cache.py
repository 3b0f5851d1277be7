"""Embeddings on disk: one SQLite file in WAL mode, shared safely by any number of processes.

A key is the SHA-256 of everything the value depends on (weights, transform, precision, device type, batch shape, torch
version) followed by the digest of the picture's bytes. A value ends in a digest of its key and its bits, which is checked when it is
read. Whatever goes wrong with the file, embeddings are computed instead.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fewshot.embedding.sealed import checked, is_of_an_older_version, sealed, unsealed, with_digest
from fewshot.embedding.sqlite_file import SqliteFile

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS embeddings (key BLOB PRIMARY KEY, value BLOB NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS by_use ON embeddings (used)",
    "CREATE TABLE IF NOT EXISTS notes (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
)
_DAY = 86_400
_TROUBLE = (sqlite3.Error, OSError, MemoryError)  # a rotten length in the file may ask for more memory than there is
DEFAULT_MAX_BYTES = 2 << 30
_ELSEWHERE = "$FEWSHOT_CACHE names another folder for it"


def default_cache_path() -> Path:
    """Where embeddings are kept.

    Returns:
        `$FEWSHOT_CACHE/embeddings.sqlite`, or a file below the user's cache folder.
    """
    root = os.environ.get("FEWSHOT_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "fewshot"
    )
    return Path(root) / "embeddings.sqlite"


@dataclass(frozen=True)
class CacheInfo:
    """What the cache holds.

    Attributes:
        path: Its file.
        entries: How many embeddings.
        bytes: On disk.
        max_bytes: How many there may be.
    """

    path: Path
    entries: int
    bytes: int
    max_bytes: int


class EmbeddingCache:
    """(key, float32 vector) pairs on disk. Any failure of the file turns it off with one warning: it only saves time."""

    def __init__(
        self, path: str | Path | None = None, *, max_bytes: int = DEFAULT_MAX_BYTES, timeout: float = 10.0
    ) -> None:
        """Name the file; it is opened when it is needed.

        Args:
            path: The SQLite file, `default_cache_path()` by default.
            max_bytes: Entries longest unused go beyond it.
            timeout: Seconds to wait for another process that writes.
        """
        self.path = Path(path) if path is not None else default_cache_path()
        self.max_bytes = max_bytes
        self._file = SqliteFile(self.path, _SCHEMA, timeout)
        self._broken = False
        self._damage_told = False
        self._lock = threading.Lock()
        self._stale: list[bytes] = []  # keys that were read, and not marked as used today

    def _give_up(self, error: Exception) -> None:
        if not self._broken:
            self._broken = True
            cure = "'fewshot cache clear' makes a new one; " if os.path.isfile(self.path) else ""
            warnings.warn(
                f"the embedding cache {self.path} cannot be used ({error}); going on without it. {cure}{_ELSEWHERE}",
                stacklevel=4,
            )

    def _tell_damage(self) -> None:
        with self._lock:
            told, self._damage_told = self._damage_told, True
        if not told:
            warnings.warn(
                f"the embedding cache {self.path} holds damaged entries; what they held is computed anew, and replaces them",
                stacklevel=4,
            )

    def get(self, key: bytes) -> npt.NDArray[np.float32] | None:
        """Look one key up.

        Args:
            key: What the value depends on.

        Returns:
            The vector (D,) stored under it, or None.
        """
        return self.get_many([key]).get(key)

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, npt.NDArray[np.float32]]:
        """Look keys up; a value whose digest is not right counts as absent, and that is told once.

        Args:
            keys: A few hundred at most.

        Returns:
            Key -> vector (D,), of those that are stored.
        """
        if self._broken or not keys:
            return {}
        today = int(time.time()) // _DAY
        places = ",".join("?" * len(keys))
        try:
            statement = f"SELECT key, value, used FROM embeddings WHERE key IN ({places})"
            rows = self._file.connection().execute(statement, keys).fetchall()
        except _TROUBLE as error:
            self._give_up(error)
            return {}
        found: dict[bytes, npt.NDArray[np.float32]] = {}
        for key, value, used in rows:
            if is_of_an_older_version(value):
                continue
            vector = checked(key, value)
            if vector is None:
                self._tell_damage()
                continue
            found[key] = vector
            if not isinstance(used, int) or used < today:
                self._stale.append(key)
        return found

    def put(self, entries: Mapping[bytes, npt.NDArray[np.float32]]) -> None:
        """Store vectors in one transaction.

        Args:
            entries: Key -> vector (D,).
        """
        now = int(time.time()) // _DAY
        self._write(
            "INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?)",
            [(key, with_digest(key, value), now) for key, value in entries.items()],
        )

    def get_note(self, key: bytes) -> bytes | None:
        """Look up what is known of something else than a picture; a damaged note counts as absent.

        Args:
            key: What it depends on.
        """
        if self._broken:
            return None
        try:
            row = self._file.connection().execute("SELECT value FROM notes WHERE key = ?", (key,)).fetchone()
        except _TROUBLE as error:
            self._give_up(error)
            return None
        return None if row is None else unsealed(key, row[0])

    def put_note(self, key: bytes, value: bytes) -> None:
        """Store what is known of something else than a picture."""
        self._write("INSERT OR REPLACE INTO notes VALUES (?, ?)", [(key, sealed(key, value))])

    def note_use(self) -> None:
        """Mark what was read since the last call as used today, so that eviction takes other entries first."""
        read, self._stale = self._stale, []
        today = int(time.time()) // _DAY
        self._write("UPDATE embeddings SET used = ? WHERE key = ?", [(today, key) for key in read])

    def _write(self, statement: str, rows: list[tuple[object, ...]]) -> None:
        if self._broken or not rows:
            return
        try:
            connection = self._file.connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.executemany(statement, rows)
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # a full disk has rolled it back already
                    connection.execute("ROLLBACK")
                raise
        except _TROUBLE as error:
            self._give_up(error)

    def evict(self) -> int:
        """Drop the entries longest unused until the rest fits `max_bytes`.

        Returns:
            How many went.
        """
        if self._broken:
            return 0
        try:
            connection = self._file.connection()
            entries, size = connection.execute(
                "SELECT COUNT(*), COALESCE(SUM(LENGTH(value) + 64), 0) FROM embeddings"
            ).fetchone()
            if size <= self.max_bytes:
                return 0
            surplus = int(entries * (1 - 0.9 * self.max_bytes / size)) + 1
            connection.execute(
                "DELETE FROM embeddings WHERE key IN (SELECT key FROM embeddings ORDER BY used, key LIMIT ?)",
                (surplus,),
            )
            connection.execute("VACUUM")
            return surplus
        except _TROUBLE as error:
            self._give_up(error)
            return 0

    def info(self) -> CacheInfo:
        """Entries and bytes on disk.

        Returns:
            What there is; zeros where there is no cache yet.
        """
        if not self.path.exists():
            return CacheInfo(self.path, 0, 0, self.max_bytes)
        entries = 0
        try:
            entries = self._file.connection().execute("SELECT COUNT(*) FROM embeddings").fetchone()[0]
        except _TROUBLE as error:
            self._give_up(error)
        return CacheInfo(self.path, entries, sum(part.stat().st_size for part in self._file.parts()), self.max_bytes)

    def close(self) -> None:
        """Close this object's connections, of every thread; it can be used again afterwards."""
        self._file.close()

    def clear(self) -> None:
        """Delete the cache's files, broken or not; raises `DataError` where a folder is in the place of one of them."""
        self._file.delete(_ELSEWHERE)
        self._broken = False
