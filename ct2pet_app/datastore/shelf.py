"""Where the server keeps what clients give it: uploaded CTs, synthetic PETs as labels, notes about images.

A folder of files with names of our own, and one SQLite table of contents, which several processes may use at once. An
id from a request is a key of that table, never a part of a path.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sqlite3
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ct2pet_app.errors import NotFoundError, RequestError

WAIT_FOR_OTHERS_S = 10.0
UPLOAD = ""  # the tag under which an uploaded image itself is kept
NAME = re.compile(r"[\w.()+ -]{1,200}")  # letters, digits and harmless signs; no separators of paths
KEPT_TABLE = """CREATE TABLE IF NOT EXISTS kept
    (image TEXT, tag TEXT, file TEXT NOT NULL, note TEXT NOT NULL, PRIMARY KEY (image, tag))"""
NOTE_TABLE = "CREATE TABLE IF NOT EXISTS note (image TEXT PRIMARY KEY, note TEXT NOT NULL)"


@dataclass(frozen=True)
class Kept:
    """A file on the shelf: an uploaded image (its tag is empty) or an image's label."""

    image: str
    tag: str
    path: Path
    note: Mapping[str, Any]


class Shelf:
    """The writable part of the datastore; nothing is made before something is kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._contents = folder / "contents.sqlite"

    def uploads(self) -> dict[str, Kept]:
        """Return the uploaded images by id."""
        return {kept.image: kept for kept in self._find("tag = ?", UPLOAD)}

    def labels(self) -> tuple[Kept, ...]:
        """Return all labels, by image and tag."""
        return self._find("tag <> ?", UPLOAD)

    def labels_of(self, image: str) -> dict[str, Kept]:
        """Return the labels of an image by tag."""
        return {kept.tag: kept for kept in self._find("image = ? AND tag <> ?", image, UPLOAD)}

    def keep_upload(self, image: str, source: Path, suffix: str, note: Mapping[str, Any]) -> None:
        """Copy a file onto the shelf as an image; one of the same id is replaced."""
        self._keep(checked_name(image, "image id"), UPLOAD, source, suffix, note)

    def keep_label(self, image: str, tag: str, source: Path, suffix: str, note: Mapping[str, Any]) -> None:
        """Copy a file onto the shelf as a label; one of the same image and tag is replaced."""
        self._keep(image, checked_name(tag, "label tag"), source, suffix, note)

    def drop(self, image: str, tag: str = UPLOAD) -> None:
        """Remove a label, or an uploaded image with all its labels.

        Raises:
            NotFoundError: There is none.
        """
        found = self._find("image = ? AND tag = ?", image, tag)
        if not found:
            what = f"label {tag!r} of image {image!r}" if tag else f"image {image!r}"
            raise NotFoundError(f"{what} was not uploaded here, so cannot be removed; the studies folder is only read")
        gone = found if tag else self._find("image = ?", image)
        with self._open() as contents:
            contents.executemany("DELETE FROM kept WHERE image = ? AND tag = ?", [(k.image, k.tag) for k in gone])
        for kept in gone:
            kept.path.unlink(missing_ok=True)

    def note_of(self, image: str) -> dict[str, Any]:
        """Return what was noted about an image, or about a PET that is its final label."""
        if not self._contents.is_file():
            return {}
        with self._open() as contents:
            return _note_in(contents, image)

    def add_note(self, image: str, note: Mapping[str, Any]) -> None:
        """Add to what is noted about an image or a PET; what another process adds meanwhile stays."""
        with self._open() as contents:
            contents.execute("BEGIN IMMEDIATE")
            merged = json.dumps({**_note_in(contents, image), **note})
            contents.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (image, merged))

    def add_label_note(self, image: str, tag: str, note: Mapping[str, Any]) -> None:
        """Add to the note of a label.

        Raises:
            NotFoundError: There is no such label here.
        """
        if tag not in self.labels_of(image):
            raise NotFoundError(f"image {image!r} has no label {tag!r} whose note could be changed")
        with self._open() as contents:
            contents.execute("BEGIN IMMEDIATE")
            found = contents.execute("SELECT note FROM kept WHERE image = ? AND tag = ?", (image, tag)).fetchone()
            merged = json.dumps({**(json.loads(found[0]) if found else {}), **note})
            contents.execute("UPDATE kept SET note = ? WHERE image = ? AND tag = ?", (merged, image, tag))

    def _keep(self, image: str, tag: str, source: Path, suffix: str, note: Mapping[str, Any]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"{uuid.uuid4().hex}{suffix}"
        beside = self._folder / f".{name}"
        try:
            shutil.copyfile(source, beside)
            beside.replace(self._folder / name)
        finally:  # the disk may be full
            beside.unlink(missing_ok=True)
        former = self._find("image = ? AND tag = ?", image, tag)
        with self._open() as contents:
            row = (image, tag, name, json.dumps(dict(note)))
            contents.execute("INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?)", row)
        for kept in former:
            kept.path.unlink(missing_ok=True)

    def _find(self, where: str, *values: str) -> tuple[Kept, ...]:
        if not self._contents.is_file():
            return ()
        with self._open() as contents:
            query = f"SELECT image, tag, file, note FROM kept WHERE {where} ORDER BY image, tag"
            rows = contents.execute(query, values).fetchall()
        return tuple(Kept(image, tag, self._folder / file, json.loads(note)) for image, tag, file, note in rows)

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self._folder.mkdir(parents=True, exist_ok=True)
        contents = sqlite3.connect(self._contents, timeout=WAIT_FOR_OTHERS_S)
        try:
            with contents:  # one transaction
                contents.execute(KEPT_TABLE)
                contents.execute(NOTE_TABLE)
                yield contents
        finally:
            contents.close()


def _note_in(contents: sqlite3.Connection, image: str) -> dict[str, Any]:
    row = contents.execute("SELECT note FROM note WHERE image = ?", (image,)).fetchone()
    return dict(json.loads(row[0])) if row else {}


def checked_name(word: str, what: str) -> str:
    """Return a name that a client chose.

    Raises:
        RequestError: Empty, too long, or with signs that names of images and tags do not need.
    """
    if not NAME.fullmatch(word) or not word.strip(". "):
        raise RequestError(f"{what} {word[:80]!r}: give 1 to 200 letters, digits and . _ - + ( ), without / or \\")
    return word
