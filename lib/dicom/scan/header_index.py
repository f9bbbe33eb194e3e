"""A small persistent cache of headers, so that an unchanged folder is scanned without opening a file.

One SQLite file. A row is believed while the file has the size and the modification time it had when it was read. The
cache may be deleted at any time; a damaged one is thrown away, one that cannot be used is done without.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import threading
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from lib.dicom.instance_header import HEADER_FIELDS, InstanceHeader, SharedHeader, shared_from_json, shared_to_json
from lib.imaging.files.failed_files import cache_folder

__all__ = ["HeaderIndex", "IndexedFile", "cache_folder", "default_index"]

logger = logging.getLogger(__name__)

READER = 5  # raise it when read_header.py reads the same fields otherwise
VERSION = zlib.crc32(f"{READER} {HEADER_FIELDS}".encode()) & 0x7FFFFFFF
WAIT_FOR_OTHERS_S = 5.0  # another process writes for milliseconds at a time
TABLES = """
CREATE TABLE folder (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE);
CREATE TABLE shared (id INTEGER PRIMARY KEY, content TEXT NOT NULL UNIQUE);
CREATE TABLE file (folder INTEGER NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    sop_instance_uid TEXT, x REAL, y REAL, z REAL, shared INTEGER, reason TEXT, frames TEXT,
    PRIMARY KEY (folder, name)) WITHOUT ROWID;
"""


Content = tuple[InstanceHeader, ...] | str  # of a file: the headers of its slices, or the reason why it has none


class IndexedFile(NamedTuple):
    """What is known of a file. A multi-frame one is kept in one row, its frames as JSON."""

    size: int
    mtime_ns: int
    content: Content


Known = dict[str, IndexedFile]


class HeaderIndex:
    """The cache at a path. It is opened at first use; it never raises: at worst it knows nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._usable = True
        self._lock = threading.Lock()
        self._shared: dict[int, SharedHeader] = {}
        self._shared_ids: dict[SharedHeader, int] = {}

    def known(self, folder: str) -> dict[str, IndexedFile]:
        """Return what is known of a folder's own files, by name."""
        return self._guarded(lambda connection: self._known(connection, folder)) or {}

    def remember(self, folder: str, files: dict[str, IndexedFile]) -> None:
        """Keep what was read of files of one folder; all of it or nothing."""
        self._guarded(lambda connection: self._remember(connection, folder, files))

    def forget(self, folder: str, names: Iterable[str]) -> None:
        """Drop files that are gone from a folder."""
        self._guarded(lambda connection: self._forget(connection, folder, list(names)))

    def forget_folders_but(self, folders: Collection[str], *, root: str) -> None:
        """Drop what is known of folders under `root` that are not among `folders` any more."""
        self._guarded(lambda connection: self._forget_folders_but(connection, folders, root))

    def close(self) -> None:
        """Let go of the file; the next use opens it again."""
        with self._lock:
            self._close()

    def _guarded(self, use: Callable[[sqlite3.Connection], Known | None]) -> Known | None:
        with self._lock:
            if not self._usable:
                return None
            try:
                return use(self._open())
            except sqlite3.OperationalError as error:  # locked for long, read-only, disk full: not damage
                logger.warning("header index %s: not used (%s); headers are read again", self.path, error)
                self._usable = False
                self._close()
            except (sqlite3.DatabaseError, ValueError, TypeError, KeyError) as error:
                logger.warning("header index %s: damaged (%s); thrown away and built again", self.path, error)
                self._discard()
            except OSError as error:
                logger.warning("header index %s: cannot be written (%s); headers are read again", self.path, error)
                self._usable = False
            return None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                self.path, timeout=WAIT_FOR_OTHERS_S, isolation_level=None, check_same_thread=False
            )
            self._connection = connection
            connection.execute("PRAGMA synchronous = OFF")  # a cache may lose its last rows when the power fails
            if connection.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                self._create(connection)
        return self._connection

    def _create(self, connection: sqlite3.Connection) -> None:
        with _transaction(connection):
            if connection.execute("PRAGMA user_version").fetchone()[0] == VERSION:
                return  # another process was faster
            for table in ("folder", "shared", "file"):
                connection.execute(f"DROP TABLE IF EXISTS {table}")
            for statement in filter(str.strip, TABLES.split(";")):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")

    def _known(self, connection: sqlite3.Connection, folder: str) -> dict[str, IndexedFile]:
        rows = connection.execute(
            "SELECT name, size, mtime_ns, sop_instance_uid, x, y, z, shared, reason, frames FROM file "
            "WHERE folder = (SELECT id FROM folder WHERE path = ?)",
            (_stored(folder),),
        ).fetchall()
        prefix = folder.rstrip(os.sep) + os.sep
        shared_of = self._shared
        found = {}
        for stored_name, size, mtime_ns, uid, x, y, z, shared_id, reason, frames in rows:
            name = _name_of(stored_name)
            if frames is not None:
                content: Content = self._frames(connection, prefix + name, uid, frames)
            elif shared_id is None:
                content = _name_of(reason)
            else:
                shared = shared_of.get(shared_id) or self._load_shared(connection, shared_id)
                position = None if x is None else (x, y, z)
                content = (InstanceHeader(prefix + name, uid, position, shared),)
            found[name] = IndexedFile(size, mtime_ns, content)
        return found

    def _frames(self, connection: sqlite3.Connection, path: str, uid: str, frames: str) -> tuple[InstanceHeader, ...]:
        headers = []
        for number, position, shared_id in json.loads(frames):
            shared = self._shared.get(shared_id) or self._load_shared(connection, shared_id)
            vector = None if position is None else (position[0], position[1], position[2])
            headers.append(InstanceHeader(path, uid, vector, shared, number))
        return tuple(headers)

    def _load_shared(self, connection: sqlite3.Connection, shared_id: int) -> SharedHeader:
        row = connection.execute("SELECT content FROM shared WHERE id = ?", (shared_id,)).fetchone()
        if row is None:
            raise ValueError("a file without its header")
        shared = shared_from_json(json.loads(row[0]))
        self._shared[shared_id] = shared
        self._shared_ids[shared] = shared_id
        return shared

    def _remember(self, connection: sqlite3.Connection, folder: str, files: dict[str, IndexedFile]) -> None:
        with _transaction(connection):
            path = _stored(folder)
            connection.execute("INSERT OR IGNORE INTO folder (path) VALUES (?)", (path,))
            (folder_id,) = connection.execute("SELECT id FROM folder WHERE path = ?", (path,)).fetchone()
            rows = [(folder_id, _stored(name), *self._row(connection, file)) for name, file in files.items()]
            connection.executemany("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def _row(self, connection: sqlite3.Connection, file: IndexedFile) -> tuple[object, ...]:
        if isinstance(file.content, str):
            return (file.size, file.mtime_ns, None, None, None, None, None, _stored(file.content), None)
        header = file.content[0]
        if header.frame:
            frames = [[one.frame, one.position_mm, self._shared_id(connection, one.shared)] for one in file.content]
            words = json.dumps(frames)
            return (file.size, file.mtime_ns, header.sop_instance_uid, None, None, None, None, None, words)
        x, y, z = header.position_mm or (None, None, None)
        shared_id = self._shared_id(connection, header.shared)
        return (file.size, file.mtime_ns, header.sop_instance_uid, x, y, z, shared_id, None, None)

    def _shared_id(self, connection: sqlite3.Connection, shared: SharedHeader) -> int:
        shared_id = self._shared_ids.get(shared)
        if shared_id is None:
            content = json.dumps(shared_to_json(shared), sort_keys=True)
            connection.execute("INSERT OR IGNORE INTO shared (content) VALUES (?)", (content,))
            (shared_id,) = connection.execute("SELECT id FROM shared WHERE content = ?", (content,)).fetchone()
            self._shared_ids[shared] = shared_id
            self._shared[shared_id] = shared
        return int(shared_id)

    def _forget(self, connection: sqlite3.Connection, folder: str, names: list[str]) -> None:
        with _transaction(connection):
            connection.executemany(
                "DELETE FROM file WHERE folder = (SELECT id FROM folder WHERE path = ?) AND name = ?",
                [(_stored(folder), _stored(name)) for name in names],
            )

    def _forget_folders_but(self, connection: sqlite3.Connection, folders: Collection[str], root: str) -> None:
        below = root.rstrip(os.sep) + os.sep
        rows = [(folder_id, _name_of(path)) for folder_id, path in connection.execute("SELECT id, path FROM folder")]
        gone = [(folder_id,) for folder_id, path in rows if path.startswith(below) and path not in folders]
        if gone:
            with _transaction(connection):
                connection.executemany("DELETE FROM file WHERE folder = ?", gone)
                connection.executemany("DELETE FROM folder WHERE id = ?", gone)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._shared.clear()
        self._shared_ids.clear()

    def _discard(self) -> None:
        self._close()
        try:
            for suffix in ("", "-journal"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        except OSError as error:
            logger.warning("header index %s: cannot be removed (%s); headers are read again", self.path, error)
            self._usable = False


def _stored(name: str) -> str | bytes:
    """Return a name as SQLite can keep it: as bytes where it is no text, which a file system's names need not be."""
    if name.isascii() or not any("\ud800" <= character <= "\udfff" for character in name):
        return name
    return name.encode("utf-8", "surrogatepass")


def _name_of(stored: str | bytes) -> str:
    return stored.decode("utf-8", "surrogatepass") if isinstance(stored, bytes) else str(stored)


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.execute("COMMIT")


def default_index() -> HeaderIndex:
    """Return the index that every door shares."""
    return HeaderIndex(cache_folder() / "headers.sqlite")
