"""The SQLite table of uploads, labels and notes: open it, migrate it, and move it away if it is damaged.

Reading never fails because of the database: an unreadable table counts as empty and is logged once. Writing raises an
error. A damaged database is moved into `damaged-...`, together with the files; nothing is deleted.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ct2pet_app.errors import BusyError
from ct2pet_app.json_values import stored_json_object
from lib.errors import OutputError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

WRITE_TIMEOUT_S, READ_TIMEOUT_S = 10.0, 2.0  # another process writes for milliseconds
UNAVAILABLE_FOR_S = 5.0  # after a read that failed, others do not wait for the same
VERSION = 1
TABLES = (
    """CREATE TABLE IF NOT EXISTS kept
        (image TEXT, tag TEXT, file TEXT NOT NULL, note TEXT NOT NULL, PRIMARY KEY (image, tag))""",
    "CREATE TABLE IF NOT EXISTS note (image TEXT PRIMARY KEY, note TEXT NOT NULL)",
    # records of the server about an image or label; clients cannot write them
    "CREATE TABLE IF NOT EXISTS record (image TEXT, tag TEXT, record TEXT NOT NULL, PRIMARY KEY (image, tag))",
)
FILE = re.compile(r"[0-9a-f]{32}(\.[a-z0-9]{1,8}){0,2}")  # how files of the store are named
SERVER_KEYS = frozenset({"scores", "uncertainty", "strategy", "drawn"})  # once kept among the clients' notes
MEASURED_KEYS = frozenset({"slices", "spacing_mm"})  # of an upload
DAMAGED = frozenset({"SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR", "SQLITE_FORMAT", "SQLITE_MISMATCH"})
BUSY = frozenset({"SQLITE_BUSY", "SQLITE_LOCKED"})


class LabelTable:
    """The table in a folder; nothing is created before something is written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "contents.sqlite"
        self._unavailable_until = 0.0  # time.monotonic()

    def read(self, query: Callable[[sqlite3.Connection], Result], *, default: Result) -> Result:
        """Return the result of a query; the default if there is no table, or it cannot be read now."""
        if time.monotonic() < self._unavailable_until or not self.path.is_file():
            return default
        try:
            with self._connected(READ_TIMEOUT_S) as connection:
                return query(connection)
        except sqlite3.DatabaseError as error:
            if _kind(error) in DAMAGED:
                self.put_aside(error)
            else:
                logger.warning("uploads and labels are not listed: their table cannot be read (%s)", error)
                self._unavailable_until = time.monotonic() + UNAVAILABLE_FOR_S
        return default

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection in a transaction that no other process writes in; it is committed at the end.

        Raises:
            BusyError: Another process writes for too long.
            OutputError: The disk is full, or the folder cannot be written; nothing is changed.
        """
        try:
            with self._usable() as connection:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
        except OSError as error:
            raise OutputError(f"uploads and labels cannot be written ({error.strerror}); free space") from error
        except sqlite3.Error as error:
            if _kind(error) in BUSY:
                raise BusyError("another process is writing uploads and labels; try again") from error
            raise OutputError(f"the table of uploads and labels cannot be written ({error}); free space") from error

    def put_aside(self, error: object) -> None:
        """Move a damaged table and its files into a new folder, and log that."""
        aside = self.folder / f"damaged-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:4]}"
        files = [path for path in self.folder.iterdir() if path.is_file() and FILE.fullmatch(path.name)]
        tables = [self.path.with_name(self.path.name + end) for end in ("", "-journal", "-wal", "-shm")]
        with contextlib.suppress(OSError):
            aside.mkdir()
        for path in (*tables, *files):
            with contextlib.suppress(OSError):  # there is none, or another process moves it
                path.rename(aside / path.name)
        logger.error(
            "the table of uploads and labels is damaged (%s): moved to %s/%s with %d files; a new one is begun",
            error, self.folder.name, aside.name, len(files),
        )  # fmt: skip

    def is_sound(self) -> bool:
        """Return whether the table is there and SQLite finds no damage in it; a damaged one is put aside."""
        found = self.read(lambda connection: connection.execute("PRAGMA quick_check(1)").fetchone()[0], default="")
        if found not in ("", "ok"):
            self.put_aside(found)
        return bool(found == "ok")

    @contextlib.contextmanager
    def _usable(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection to the table, or to a new one where it is damaged."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as opened:
            try:
                connection = opened.enter_context(self._connected(WRITE_TIMEOUT_S))
            except sqlite3.DatabaseError as error:
                if _kind(error) not in DAMAGED:
                    raise
                self.put_aside(error)
                connection = opened.enter_context(self._connected(WRITE_TIMEOUT_S))
            yield connection

    @contextlib.contextmanager
    def _connected(self, timeout_s: float) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self.path, timeout=timeout_s, isolation_level=None)) as connection:
            connection.text_factory = partial(str, encoding="utf-8", errors="replace")  # a row costs itself only
            if connection.execute("PRAGMA user_version").fetchone()[0] < VERSION:
                self._refuse_emptied(connection)
                _migrate(connection)
            yield connection

    def _refuse_emptied(self, connection: sqlite3.Connection) -> None:
        """Raise an error if the table is empty but there are files: it is always created before the first file."""
        tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'kept'").fetchone()[0]
        if not tables and any(FILE.fullmatch(path.name) for path in self.folder.iterdir()):
            raise sqlite3.DatabaseError("it is empty, and there are files")


def _migrate(connection: sqlite3.Connection) -> None:
    """Create the tables, and separate what the server knows from what clients noted."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        if connection.execute("PRAGMA user_version").fetchone()[0] >= VERSION:  # another process was faster
            connection.execute("ROLLBACK")
            return
        for statement in TABLES:
            connection.execute(statement)
        for image, tag, text in connection.execute("SELECT image, tag, note FROM kept").fetchall():
            note, record = _separated(stored_json_object(text) or {}, is_upload=not tag)
            connection.execute("UPDATE kept SET note = ? WHERE image IS ? AND tag IS ?", (text_of(note), image, tag))
            put_record(connection, image, tag, record)
        for image, text in connection.execute("SELECT image, note FROM note").fetchall():
            note, record = _separated(stored_json_object(text) or {}, is_upload=False)
            connection.execute("UPDATE note SET note = ? WHERE image IS ?", (text_of(note), image))
            put_record(connection, image, "", {**record_of(connection, image, ""), **record})
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _separated(values: dict[str, Any], *, is_upload: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    of_server = SERVER_KEYS | (MEASURED_KEYS if is_upload else frozenset())
    params = values.get("params")
    if isinstance(params, dict) and params.get("synthetic") is True:  # how an inference described its label
        of_server |= {"model", "params"}
    record = {key: value for key, value in values.items() if key in of_server}
    return {key: value for key, value in values.items() if key not in of_server}, record


def record_of(connection: sqlite3.Connection, image: str, tag: str) -> dict[str, Any]:
    """Return what the server knows of an image or label."""
    row = connection.execute("SELECT record FROM record WHERE image = ? AND tag = ?", (image, tag)).fetchone()
    return (stored_json_object(row[0]) or {}) if row else {}


def put_record(connection: sqlite3.Connection, image: str, tag: str, record: Mapping[str, Any]) -> None:
    """Keep what the server knows of an image or label, in the place of what it knew."""
    if not record:
        connection.execute("DELETE FROM record WHERE image = ? AND tag = ?", (image, tag))
        return
    connection.execute("INSERT OR REPLACE INTO record VALUES (?, ?, ?)", (image, tag, text_of(record)))


def note_in(connection: sqlite3.Connection, image: str) -> dict[str, Any]:
    """Return what clients noted about an image."""
    row = connection.execute("SELECT note FROM note WHERE image = ?", (image,)).fetchone()
    return (stored_json_object(row[0]) or {}) if row else {}


def text_of(values: Mapping[str, Any]) -> str:
    """Return an object as it is stored."""
    return json.dumps(dict(values), allow_nan=False)


def _kind(error: sqlite3.Error) -> str:
    """Return SQLite's name of an error without its extension: SQLITE_BUSY, SQLITE_CORRUPT, SQLITE_FULL."""
    name = getattr(error, "sqlite_errorname", None) or "SQLITE_ERROR"
    return "_".join(name.split("_")[:2])
