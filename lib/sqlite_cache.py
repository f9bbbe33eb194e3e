"""A SQLite cache of values that can be recomputed; shared between processes, safe to delete at any time."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeVar

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

BUSY_TIMEOUT_S = 5.0  # other processes write for milliseconds at a time
PAUSE_S = 60.0  # before the next attempt, after the cache could not be used


class SqliteCache:
    """A cache file, opened on first use. It never raises: after an error it behaves like an empty cache."""

    def __init__(
        self, path: Path, tables: Sequence[str], *, version: int, fallback: str, synchronous: Literal["OFF", "FULL"]
    ) -> None:
        """Create the cache; the file is opened on first use.

        Args:
            path: The SQLite file.
            tables: SQL statements that create its tables.
            version: Version of the content, 0 or above; a cache of another version is emptied.
            fallback: What happens without the cache, for log messages, such as "headers are read again".
            synchronous: OFF if the cache may be lost in a power cut, FULL if not (SQLite's pragma of that name).
        """
        self.path = path
        self._tables = tables
        self._version = version
        self._fallback = fallback
        self._synchronous = synchronous
        self._connection: sqlite3.Connection | None = None
        self._paused_until = 0.0  # time.monotonic()
        self._lock = threading.Lock()

    def run(self, query: Callable[[sqlite3.Connection], Result]) -> Result | None:
        """Return the result of a query, which runs in one transaction; None if the cache cannot be used.

        A damaged cache, or one with values that the query cannot read, is renamed to `<name>.damaged`.
        """
        with self._lock:
            if time.monotonic() < self._paused_until:
                return None
            try:
                with self._open() as connection:  # commits, or rolls back after an exception
                    return query(connection)
            except (sqlite3.OperationalError, OSError) as error:  # locked, read-only, disk full: no damage
                logger.warning("%s: not used (%s); %s", self.path.name, error, self._fallback)
                self._paused_until = time.monotonic() + PAUSE_S
                self._close()
            except (sqlite3.DatabaseError, ValueError, TypeError, KeyError) as error:
                logger.warning("%s: damaged (%s); renamed and rebuilt, %s", self.path.name, error, self._fallback)
                self._close()
                self._rename_damaged()
            return None

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            self._close()

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and not self.path.exists():  # deleted meanwhile
            self._close()
        if self._connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
            self._connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            with self._connection as connection:
                self._create_tables(connection)
        return self._connection

    def _create_tables(self, connection: sqlite3.Connection) -> None:
        if self._is_current(connection):
            return
        connection.execute("BEGIN IMMEDIATE")
        if self._is_current(connection):  # another process was faster
            return
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            connection.execute(f'DROP TABLE "{name}"')
        for statement in self._tables:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {self._version}")

    def _is_current(self, connection: sqlite3.Connection) -> bool:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return bool(tables) and version == self._version

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _rename_damaged(self) -> None:
        with contextlib.suppress(OSError):  # read-only: it stays, and `run` pauses or fails the same way again
            self.path.replace(self.path.with_name(f"{self.path.name}.damaged"))
            self.path.with_name(f"{self.path.name}-journal").unlink(missing_ok=True)
