"""A persistent cache of headers, so that an unchanged folder is scanned without opening a file.

A file's row is valid while the file has the size and the modification time that it had when it was read.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import zlib
from collections.abc import Collection, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from lib.dicom.instance_header import HEADER_FIELDS, InstanceHeader, SharedHeader, shared_from_json, shared_to_json
from lib.imaging.files.failed_files import cache_folder
from lib.sqlite_cache import SqliteCache

__all__ = ["HeaderIndex", "IndexedFile", "cache_folder", "default_index"]

READER = 6  # increase it when read_header.py reads the same fields differently, or the tables change
VERSION = zlib.crc32(f"{READER} {HEADER_FIELDS}".encode()) & 0x7FFFFFFF
TABLES = (
    "CREATE TABLE shared (id INTEGER PRIMARY KEY, header TEXT NOT NULL)",
    # names are bytes, since a file system's names need not be text
    """CREATE TABLE file (folder BLOB, name BLOB, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
        content TEXT NOT NULL, PRIMARY KEY (folder, name)) WITHOUT ROWID""",
)
DELETE = "DELETE FROM file WHERE folder = ?"

Content = tuple[InstanceHeader, ...] | str  # the headers of a file's slices, or the reason why it has none


class IndexedFile(NamedTuple):
    """The cached state of a file."""

    size: int
    mtime_ns: int
    content: Content


class HeaderIndex:
    """The cache at a path. It is opened at first use and never raises: at worst it is empty."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._cache = SqliteCache(path, TABLES, version=VERSION, fallback="headers are read again", synchronous="OFF")
        self._shared: dict[int, SharedHeader] = {}
        self._shared_rows: dict[SharedHeader, tuple[int, str]] = {}

    def known(self, folder: str) -> dict[str, IndexedFile]:
        """Return the cached files of a folder, by name."""
        return self._cache.run(partial(self._known, folder=folder)) or {}

    def remember(self, folder: str, files: dict[str, IndexedFile]) -> None:
        """Cache files of one folder in one transaction."""
        self._cache.run(partial(self._remember, folder=folder, files=files))

    def forget(self, folder: str, names: Iterable[str]) -> None:
        """Remove files from the cache of a folder."""
        rows = [(_to_bytes(folder), _to_bytes(name)) for name in names]
        self._cache.run(lambda connection: connection.executemany(f"{DELETE} AND name = ?", rows))

    def forget_folders_but(self, folders: Collection[str], *, root: str) -> None:
        """Remove folders under `root` that are not among `folders`."""
        below = root.rstrip(os.sep) + os.sep

        def forget(connection: sqlite3.Connection) -> None:
            """Remove the folders in the database."""
            rows = connection.execute("SELECT DISTINCT folder FROM file").fetchall()
            known = [(encoded, _to_text(encoded)) for (encoded,) in rows]
            removed = [(encoded,) for encoded, path in known if path.startswith(below) and path not in folders]
            connection.executemany(DELETE, removed)

        self._cache.run(forget)

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        self._cache.close()

    def _known(self, connection: sqlite3.Connection, *, folder: str) -> dict[str, IndexedFile]:
        prefix, loaded = folder.rstrip(os.sep) + os.sep, self._shared
        query = "SELECT name, size, mtime_ns, content FROM file WHERE folder = ?"
        rows = connection.execute(query, (_to_bytes(folder),)).fetchall()
        contents = json.loads(f"[{','.join(row[3] for row in rows)}]")  # faster than one by one
        found = {}
        for (encoded, size, mtime_ns, _), stored in zip(rows, contents, strict=True):
            name = _to_text(encoded)
            if isinstance(stored, str):
                found[name] = IndexedFile(size, mtime_ns, stored)
                continue
            path = prefix + name
            headers = [
                InstanceHeader(
                    path, uid, position and tuple(position), loaded.get(shared) or self._load(connection, shared), frame
                )
                for uid, position, shared, frame in stored
            ]
            found[name] = IndexedFile(size, mtime_ns, tuple(headers))
        return found

    def _load(self, connection: sqlite3.Connection, shared_id: int) -> SharedHeader:
        row = connection.execute("SELECT header FROM shared WHERE id = ?", (shared_id,)).fetchone()
        if row is None:
            raise ValueError("a file without its header")
        shared = self._shared[shared_id] = shared_from_json(json.loads(row[0]))
        return shared

    def _remember(self, connection: sqlite3.Connection, *, folder: str, files: dict[str, IndexedFile]) -> None:
        headers = {one.shared for file in files.values() if not isinstance(file.content, str) for one in file.content}
        connection.executemany("INSERT OR IGNORE INTO shared VALUES (?, ?)", map(self._shared_row, headers))
        rows = [
            (_to_bytes(folder), _to_bytes(name), file.size, file.mtime_ns, json.dumps(self._stored(file.content)))
            for name, file in files.items()
        ]
        connection.executemany("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?)", rows)

    def _stored(self, content: Content) -> str | list[list[Any]]:
        if isinstance(content, str):
            return content
        return [[one.sop_instance_uid, one.position_mm, self._shared_row(one.shared)[0], one.frame] for one in content]

    def _shared_row(self, shared: SharedHeader) -> tuple[int, str]:
        """Return the id of a header, which is a hash of its content, and the content."""
        row = self._shared_rows.get(shared)
        if row is None:
            header = json.dumps(shared_to_json(shared), sort_keys=True)
            shared_id = int.from_bytes(hashlib.sha256(header.encode()).digest()[:8], "big") >> 1
            row = self._shared_rows[shared] = (shared_id, header)
        return row


def _to_bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def _to_text(name: bytes) -> str:
    return name.decode("utf-8", "surrogatepass")


def default_index() -> HeaderIndex:
    """Return the index that all commands share."""
    return HeaderIndex(cache_folder() / "headers.sqlite")
