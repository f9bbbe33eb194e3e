"""MONAI Label's sessions (uploads that serve several requests), kept inside the server's own folder.

::

    SESSIONS_FOLDER/<id>/meta.info    owner, time of creation, image, size; its modification time is the last access
    SESSIONS_FOLDER/<id>/<image>      the volume file, or the folder of DICOM files

The stock class reads whatever path a session id makes (``../../x``), believes the image path inside an uploaded
``meta.info``, unpacks archives to wherever their names point, gives ids that can be guessed (uuid1), and gives every
session to all users.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from monailabel.utils.sessions import SessionInfo, Sessions

from ct2pet_app.datastore.ct_source import removed_if_refused, unpack
from ct2pet_app.errors import BusyError, NotFoundError
from ct2pet_app.json_values import stored_json_object
from lib.errors import OutputError
from lib.files import remove_abandoned, unfinished_folder

logger = logging.getLogger(__name__)

SESSION_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # a UUID
META_FILE = "meta.info"
MAX_META_BYTES = 8192
MAX_SESSIONS = 500
MAX_SESSIONS_PER_OWNER = 100  # where the server has accounts
MAX_TOTAL_BYTES = 20 * 10**9
MAX_LIFETIME_S = 24 * 3600  # after its creation, however often it is used
CLOCK_TOLERANCE_S = 60.0  # a time further ahead is not believed
PART, REMOVED = ".part", ".removed"


def no_session(session_id: str) -> NotFoundError:
    """Return the error of a session that has expired, or never existed."""
    message = f"no session {session_id[:80]!r}: it has expired, or never was; create it again"
    return NotFoundError(message, code="session_not_found")


class CheckedSessions(Sessions):
    """Sessions whose ids are random UUIDs, whose images are in the session's own folder, and which have an owner."""

    def __init__(self, store_path: str = "", expiry: int = 3600) -> None:
        super().__init__(store_path, expiry)
        self._adding = threading.Lock()

    def get_session(
        self, session_id: str, update_ts: bool = True, fetch_cache: bool = True, *, owner: str | None = None
    ) -> SessionInfo | None:
        """Return a session; None where there is none of that id, it has expired, or is another owner's.

        Args:
            session_id: As `add_session` returned it.
            update_ts: Whether this counts as an access.
            fetch_cache: Of the stock class; nothing is cached here.
            owner: Whose it must be; any owner's if it is None.
        """
        if not SESSION_ID.fullmatch(session_id):
            return None
        session = self._read(Path(self.store_path, session_id))
        if session is None or (owner is not None and session.meta["owner"] != owner) or self._has_expired(session):
            return None
        if update_ts:
            with contextlib.suppress(OSError):  # removed meanwhile
                os.utime(Path(session.path, META_FILE))
            session.last_access_ts = int(time.time())
        return session

    def find(self, session_id: str, *, update_ts: bool = True, owner: str | None) -> SessionInfo:
        """Return a session, as `get_session`.

        Raises:
            NotFoundError: There is none.
        """
        session = self.get_session(session_id, update_ts=update_ts, owner=owner)
        if session is None:
            raise no_session(session_id)
        return session

    def remove_session(self, session_id: str) -> None:
        """Remove a session and its files; atomically."""
        folder = Path(self.store_path, session_id)
        if SESSION_ID.fullmatch(session_id) and folder.is_dir():
            removed = folder.with_name(f".{uuid.uuid4().hex}{REMOVED}")
            with contextlib.suppress(OSError):  # another request removes it
                folder.rename(removed)
            shutil.rmtree(removed, ignore_errors=True)

    def add_session(
        self,
        data_file: str,
        expiry: int = 0,
        uncompress: bool = False,
        session_id: str | None = None,
        *,
        owner: str = "",
    ) -> tuple[str, SessionInfo]:
        """Return the id and the session of an uploaded file or folder, which is moved.

        Args:
            data_file: The upload.
            expiry: Seconds without access after which it may be removed; at most, and by default, the server's.
            uncompress: Whether the upload is a zip to be unpacked.
            session_id: A UUID; by default a random one.
            owner: Whose session it is; empty where the server has no accounts.

        Raises:
            ImageFileError: To be unpacked, but no zip.
            BusyError: There are as many sessions as are kept.
            OutputError: The disk, or the room for sessions, is full.
        """
        if not uncompress:
            return self._add(Path(data_file), expiry, session_id, owner)
        archive = Path(data_file)
        with tempfile.TemporaryDirectory(prefix="ct2pet-session-") as folder, removed_if_refused(archive):
            unpacked = Path(folder, "series")
            unpacked.mkdir()
            unpack(archive, unpacked, archive.name)
            return self._add(unpacked, expiry, session_id, owner)

    def remove_expired(self) -> int:
        """Remove expired sessions and files of killed processes; return their number."""
        store = Path(self.store_path)
        if not store.is_dir():
            return 0
        remove_abandoned(path for path in store.glob(".*") if path.name.endswith((PART, REMOVED)))
        removed = 0
        for folder in store.iterdir():
            if not SESSION_ID.fullmatch(folder.name):
                continue
            session = self._read(folder)
            if self._has_expired(session) if session is not None else self._is_old(folder):
                self.remove_session(folder.name)
                removed += 1
        return removed

    def _add(self, upload: Path, expiry: int, session_id: str | None, owner: str) -> tuple[str, SessionInfo]:
        store = Path(self.store_path)
        store.mkdir(parents=True, exist_ok=True)
        new_id = session_id or str(uuid.uuid4())
        now = int(time.time())
        size = _size_of(upload)
        meta = {
            "name": new_id,
            "image": upload.name,
            "meta": {"owner": owner, "bytes": size},
            "create_ts": now,
            "last_access_ts": now,
            "expiry": min(expiry if expiry > 0 else self.expiry, self.expiry),
        }
        with self._adding:
            self._refuse_too_many(owner, size)
            with unfinished_folder(store, PART) as begun:
                shutil.move(upload, begun / upload.name)
                (begun / META_FILE).write_text(json.dumps(meta))
                begun.rename(store / new_id)
        session = self._read(store / new_id)
        if session is None:
            raise OutputError("the session could not be kept; is the server's disk full?")
        return new_id, session

    def _refuse_too_many(self, owner: str, size: int) -> None:
        self.remove_expired()
        sessions = list(self._all())
        of_owner = sum(session.meta["owner"] == owner for session in sessions)
        if len(sessions) >= MAX_SESSIONS or (owner and of_owner >= MAX_SESSIONS_PER_OWNER):
            raise BusyError(
                f"{len(sessions)} sessions are kept, {of_owner} of them yours, and no more are accepted; one expires "
                f"after {self.expiry} s without use",
                code="session_limit",
                sessions=len(sessions),
                expiry_s=self.expiry,
            )
        if sum(session.meta["bytes"] for session in sessions) + size > MAX_TOTAL_BYTES:
            raise OutputError(
                f"the sessions' files would take more than {MAX_TOTAL_BYTES // 10**9} GB",
                code="session_space",
                limit_gb=MAX_TOTAL_BYTES // 10**9,
            )

    def _all(self) -> Iterator[SessionInfo]:
        for folder in Path(self.store_path).iterdir():
            if SESSION_ID.fullmatch(folder.name):
                session = self._read(folder)
                if session is not None:
                    yield session

    def _read(self, folder: Path) -> SessionInfo | None:
        """Return the validated `meta.info` of a session; None if it is invalid."""
        try:
            with (folder / META_FILE).open("rb") as file:
                accessed_s = os.fstat(file.fileno()).st_mtime
                values = stored_json_object(file.read(MAX_META_BYTES)) or {}
        except OSError:
            return None
        image, created, expiry = values.get("image"), values.get("create_ts", accessed_s), values.get("expiry")
        if not isinstance(image, str) or not _are_times(created, expiry):
            return None
        path = folder / image  # an older version stored the full path
        if path.parent != folder or path.is_symlink() or not path.exists() or folder.is_symlink():
            return None
        stored = values.get("meta")
        stored = stored if isinstance(stored, dict) else {}
        size = stored.get("bytes")
        session = SessionInfo()
        session.name, session.path, session.image = folder.name, str(folder), str(path)
        session.meta = {
            "owner": str(stored.get("owner", "")),
            "bytes": size if isinstance(size, int) and size >= 0 else 0,
        }
        session.create_ts, session.last_access_ts = int(created), int(accessed_s)
        session.expiry = int(min(expiry, self.expiry))
        return session

    def _has_expired(self, session: SessionInfo) -> bool:
        now = time.time()
        if max(session.create_ts, session.last_access_ts) > now + CLOCK_TOLERANCE_S:
            return True
        lifetime_s = max(MAX_LIFETIME_S, self.expiry)
        return bool(session.last_access_ts + session.expiry < now or session.create_ts + lifetime_s < now)

    def _is_old(self, folder: Path) -> bool:
        try:
            return bool(abs(time.time() - folder.stat().st_mtime) > self.expiry)
        except OSError:
            return False


def described(session: SessionInfo) -> dict[str, Any]:
    """Return the response about a session: the stock keys, without paths of the server."""
    stock: dict[str, Any] = session.to_json()
    return {**stock, "path": session.name, "image": Path(session.image).name, "meta": {}}


def _are_times(*values: Any) -> bool:
    return all(isinstance(value, int | float) and 0 <= value < 2**40 for value in values)


def _size_of(upload: Path) -> int:
    files = upload.rglob("*") if upload.is_dir() else (upload,)
    return sum(path.stat().st_size for path in files if path.is_file())
