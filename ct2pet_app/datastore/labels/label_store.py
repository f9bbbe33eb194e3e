"""The store of uploaded CTs, labels such as synthetic PETs, and notes about images.

It is a folder of immutable files with generated names, and an SQLite table of contents (label_table.py), which several
processes can use at the same time. An id from a request is a key of that table, never a part of a path. Notes of
clients and records of the server are stored separately.
"""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ct2pet_app.datastore.labels.label_table import FILE, VERSION, LabelTable, note_in, put_record, record_of, text_of
from ct2pet_app.errors import NotFoundError, RequestError
from ct2pet_app.json_values import checked_json_object, stored_json_object
from lib.errors import CT2PETError
from lib.files import flush_to_disk, remove_abandoned, unfinished_file

logger = logging.getLogger(__name__)

FINAL = "final"  # MONAI Label's tag of the definitive label
UPLOAD = ""  # the tag under which an uploaded image itself is kept
NAME = re.compile(r"[\w.()+ -]{1,200}")  # letters, digits and harmless characters; no path separators
MAX_ATTEMPTS = 20  # to open a file that is replaced again and again
QUERY = """SELECT kept.image, kept.tag, kept.file, kept.note, record.record FROM kept
    LEFT JOIN record ON record.image = kept.image AND record.tag = kept.tag"""


@dataclass(frozen=True)
class StoredFile:
    """A stored file: an uploaded image (its tag is empty) or an image's label.

    Attributes:
        note: Note of clients.
        record: Record of the server, which clients cannot write.
    """

    image: str
    tag: str
    path: Path
    note: Mapping[str, Any]
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Notes:
    """The note of clients about an image, and the record of the server."""

    note: Mapping[str, Any] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)


class LabelStore:
    """The writable part of the datastore; its folder is created when something is stored."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._table = LabelTable(folder)
        self._unreadable: set[tuple[Any, ...]] = set()  # rows that were logged

    def uploads(self) -> dict[str, StoredFile]:
        """Return the uploaded images by id."""
        return {kept.image: kept for kept in self._find("kept.tag = ?", UPLOAD)}

    def labels(self) -> tuple[StoredFile, ...]:
        """Return all labels, by image and tag."""
        return self._find("kept.tag <> ?", UPLOAD)

    def labels_of(self, image: str) -> dict[str, StoredFile]:
        """Return the labels of an image by tag."""
        return {kept.tag: kept for kept in self._find("kept.image = ? AND kept.tag <> ?", image, UPLOAD)}

    def find(self, image: str, tag: str = UPLOAD) -> StoredFile | None:
        """Return a label, or an uploaded image; None where there is none."""
        return next(iter(self._find("kept.image = ? AND kept.tag = ?", image, tag)), None)

    def open_file(self, image: str, tag: str = UPLOAD) -> tuple[StoredFile, BinaryIO] | None:
        """Return a label or upload with its open file, whose content does not change if it is replaced meanwhile."""
        for _ in range(MAX_ATTEMPTS):
            kept = self.find(image, tag)
            if kept is None:
                return None
            with contextlib.suppress(FileNotFoundError):  # replaced since it was looked up
                return kept, kept.path.open("rb")
        return None

    def keep_upload(
        self, image: str, source: Path, suffix: str, note: Mapping[str, Any], *, record: Mapping[str, Any] | None = None
    ) -> None:
        """Copy a file into the store as an image; one of the same id is replaced.

        Raises:
            RequestError: The id or the note is invalid.
            OutputError: The disk is full; no files remain.
        """
        self._keep(checked_name(image, "image id"), UPLOAD, source, suffix, note, record or {})

    def keep_label(
        self,
        image: str,
        tag: str,
        source: Path,
        suffix: str,
        note: Mapping[str, Any],
        *,
        record: Mapping[str, Any] | None = None,
    ) -> None:
        """Copy a file into the store as a label; one of the same image and tag is replaced. Raises as `keep_upload`."""
        self._keep(image, checked_name(tag, "label tag"), source, suffix, note, record or {})

    def drop(self, image: str, tag: str = UPLOAD) -> None:
        """Remove a label, or an uploaded image with all its labels and notes.

        Raises:
            NotFoundError: There is none.
        """
        if self.find(image, tag) is None:
            what = f"label {tag!r} of image {image!r}" if tag else f"image {image!r}"
            raise NotFoundError(f"{what} was not uploaded here, so cannot be removed; the studies folder is only read")
        where, values = ("image = ? AND tag = ?", (image, tag)) if tag else ("image = ?", (image,))
        with self._table.writing() as contents:
            files = contents.execute(f"SELECT file FROM kept WHERE {where}", values).fetchall()
            contents.execute(f"DELETE FROM kept WHERE {where}", values)
            contents.execute(f"DELETE FROM record WHERE {where}", values)
            if not tag:
                contents.execute("DELETE FROM note WHERE image = ?", (image,))
        self._unlink(files)

    def notes_of(self, image: str) -> Notes:
        """Return what was noted about an image, or about a PET that is its final label."""

        def query(contents: sqlite3.Connection) -> Notes:
            return Notes(note_in(contents, image), record_of(contents, image, UPLOAD))

        return self._table.read(query, default=Notes())

    def all_notes(self) -> dict[str, Notes]:
        """Return what was noted about images, and PETs that are final labels, by id."""

        def query(contents: sqlite3.Connection) -> dict[str, Notes]:
            notes = dict(contents.execute("SELECT image, note FROM note").fetchall())
            records = dict(contents.execute("SELECT image, record FROM record WHERE tag = ?", (UPLOAD,)).fetchall())
            return {
                image: Notes(stored_json_object(notes.get(image)) or {}, stored_json_object(records.get(image)) or {})
                for image in {*notes, *records}
            }

        return self._table.read(query, default={})

    def add_note(self, image: str, note: Mapping[str, Any]) -> None:
        """Add to what clients noted about an image or a PET; what another process adds meanwhile stays.

        Raises:
            RequestError: The note cannot be kept, or is too large together with what was noted before.
        """
        checked_json_object(dict(note), "info")
        with self._table.writing() as contents:
            merged = checked_json_object({**note_in(contents, image), **note}, "info, with what was noted before")
            contents.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (image, text_of(merged)))

    def add_record(self, image: str, record: Mapping[str, Any], *, tag: str = UPLOAD) -> None:
        """Add to what the server records of an image, a label, or a PET; a mapping is merged with the one before."""
        with self._table.writing() as contents:
            merged = record_of(contents, image, tag)
            for key, value in record.items():
                before = merged.get(key)
                both = isinstance(value, Mapping) and isinstance(before, Mapping)
                merged[key] = {**before, **value} if both else value  # type: ignore[dict-item]
            put_record(contents, image, tag, merged)

    def add_label_note(self, image: str, tag: str, note: Mapping[str, Any]) -> None:
        """Add to the note of a label.

        Raises:
            NotFoundError: There is no such label here.
            RequestError: As `add_note`.
        """
        checked_json_object(dict(note), "info")
        if self.find(image, tag) is None:
            raise NotFoundError(f"image {image!r} has no label {tag!r} whose note could be changed")
        with self._table.writing() as contents:
            found = contents.execute("SELECT note FROM kept WHERE image = ? AND tag = ?", (image, tag)).fetchone()
            before = stored_json_object(found[0]) if found else None
            merged = checked_json_object({**(before or {}), **note}, "info, with what was noted before")
            contents.execute("UPDATE kept SET note = ? WHERE image = ? AND tag = ?", (text_of(merged), image, tag))

    def remove_leftovers(self) -> None:
        """Remove files without a row, and partial files, of ended processes."""
        if not self._folder.is_dir():
            return
        remove_abandoned(path for path in self._folder.glob(".*") if FILE.fullmatch(path.name[1:]))
        if not self._table.is_sound():  # it is not known which files are stored
            return
        try:
            with self._table.writing() as contents:  # no other process is between a file and its row
                contents.execute(f"PRAGMA user_version = {VERSION}")  # a write, which clears a killed one's journal
                named = {name for (name,) in contents.execute("SELECT file FROM kept")}
                for path in self._folder.iterdir():
                    if FILE.fullmatch(path.name) and path.name not in named and path.is_file():
                        path.unlink(missing_ok=True)
        except CT2PETError as error:  # not a reason to stop the server
            logger.warning("files that no label or upload names stay where they are: %s", error)

    def _keep(
        self, image: str, tag: str, source: Path, suffix: str, note: Mapping[str, Any], record: Mapping[str, Any]
    ) -> None:
        checked_json_object(dict(note), "params")
        self._folder.mkdir(parents=True, exist_ok=True)
        with unfinished_file(self._folder, suffix) as begun:
            shutil.copyfile(source, begun)
            flush_to_disk(begun)  # so that a power cut leaves no row without its content
            final = self._folder / begun.name[1:]
            try:
                with self._table.writing() as contents:  # no other process takes the file for a leftover
                    of_this = (image, tag)
                    query = "SELECT file FROM kept WHERE image = ? AND tag = ?"
                    former = contents.execute(query, of_this).fetchall()
                    begun.replace(final)
                    row = (*of_this, final.name, text_of(note))
                    contents.execute("INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?)", row)
                    put_record(contents, image, tag, record)
            except BaseException:
                if final.name not in {kept.path.name for kept in self._find("kept.file = ?", final.name)}:
                    final.unlink(missing_ok=True)
                raise
        self._unlink(former)

    def _find(self, where: str, *values: str) -> tuple[StoredFile, ...]:
        """Return the stored files; rows are read again if a file was replaced since."""
        found: tuple[StoredFile, ...] = ()
        for _ in range(3):
            rows: list[tuple[Any, ...]] = self._table.read(
                lambda contents: contents.execute(f"{QUERY} WHERE {where} ORDER BY 1, 2", values).fetchall(), default=[]
            )
            known = [kept for row in rows if (kept := self._kept(row)) is not None]
            found = tuple(kept for kept in known if kept.path.is_file())
            if len(found) == len(known):
                break
        return found

    def _kept(self, row: tuple[Any, ...]) -> StoredFile | None:
        image, tag, file, note, record = row
        read = stored_json_object(note)
        is_ours = all(isinstance(value, str) for value in (image, tag, file)) and FILE.fullmatch(str(file))
        if not is_ours:
            if row[:3] not in self._unreadable:
                self._unreadable.add(row[:3])
                logger.warning("a row of the table of uploads and labels is damaged and not listed")
            return None
        return StoredFile(image, tag, self._folder / file, read or {}, stored_json_object(record) or {})

    def _unlink(self, files: list[tuple[str]]) -> None:
        for (name,) in files:
            if isinstance(name, str) and FILE.fullmatch(name):
                (self._folder / name).unlink(missing_ok=True)


def checked_name(name: str, what: str) -> str:
    """Return a name that a client chose.

    Raises:
        RequestError: Empty, too long, or with characters that are not allowed.
    """
    if not NAME.fullmatch(name) or not name.strip(". "):
        raise RequestError(f"{what} {name[:80]!r}: expected 1 to 200 letters, digits and . _ - + ( ), without / or \\")
    return name
