"""One SQLite file in WAL mode, with a connection for each thread, shared safely by any number of processes."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from episodes.errors import DataError


class SqliteFile:
    """The file is made, with its folder and tables, when it is first asked for a connection."""

    def __init__(self, path: Path, schema: Sequence[str], timeout: float) -> None:
        """Name the file.

        Args:
            path: Of the file.
            schema: Statements that make its tables where they are not there yet.
            timeout: Seconds to wait for another process that writes.
        """
        self.path, self._schema, self._timeout = path, schema, timeout
        self._local = threading.local()
        self._lock = threading.Lock()
        self._connections: list[sqlite3.Connection] = []

    def connection(self) -> sqlite3.Connection:
        """This thread's own.

        Raises:
            sqlite3.Error, OSError: The file cannot be made, or is none of SQLite's.
        """
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None or self._local.pid != os.getpid():  # a connection must not cross a fork
            with self._lock:  # threads that make the file at the same moment would find it locked
                connection = self._connect()
                self._connections.append(connection)
            self._local.connection, self._local.pid = connection, os.getpid()
        return connection

    def _connect(self) -> sqlite3.Connection:
        """A new connection. Switching a new file to WAL does not wait for another process that does so too, so it is tried again."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        end = time.monotonic() + self._timeout
        while True:
            connection = sqlite3.connect(
                self.path, timeout=self._timeout, check_same_thread=False, isolation_level=None
            )
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=NORMAL")
                for statement in self._schema:
                    connection.execute(statement)
                return connection
            except sqlite3.OperationalError as error:
                connection.close()
                if "locked" not in str(error) or time.monotonic() > end:
                    raise
                time.sleep(0.02)
            except BaseException:
                connection.close()
                raise

    def parts(self) -> list[Path]:
        """The file and those that SQLite keeps beside it, as far as they are there."""
        names = (self.path, Path(f"{self.path}-wal"), Path(f"{self.path}-shm"))
        return [part for part in names if part.exists()]

    def delete(self, instead: str) -> None:
        """Close the connections, and delete the file and those beside it.

        Args:
            instead: what else may be done where they cannot be deleted, in words.

        Raises:
            DataError: a folder is in the place of one of them; what it holds is not ours to delete.
        """
        self.close()
        parts = self.parts()
        folder = next((part for part in parts if part.is_dir()), None)
        if folder is not None:
            raise DataError(f"{folder} is a folder, in the place of the cache's file: move it away. {instead}")
        for part in parts:
            part.unlink()

    def close(self) -> None:
        """Close the connections of every thread; the next call of `connection` opens anew."""
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()
            self._local = threading.local()
