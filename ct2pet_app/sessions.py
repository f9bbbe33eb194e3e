"""MONAI Label's sessions (uploads that serve several requests), kept inside the server's own folder.

The stock class reads whatever path a session id makes (``../../x``), believes the image path inside an uploaded
``meta.info``, and unpacks archives to wherever their names point.
"""

from __future__ import annotations

import logging
import re
import tempfile
import time
from pathlib import Path

from monailabel.utils.sessions import SessionInfo, Sessions

from ct2pet_app.uploads import removed_if_refused, unpack

logger = logging.getLogger(__name__)

SESSION_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # as uuid1 gives them


class CheckedSessions(Sessions):
    """Sessions whose ids are UUIDs and whose images lie in the session's own folder."""

    def get_session(self, session_id: str, update_ts: bool = True, fetch_cache: bool = True) -> SessionInfo | None:
        """Return a session; None where there is none of that id."""
        if not SESSION_ID.fullmatch(session_id):
            return None
        session = super().get_session(session_id, update_ts=update_ts, fetch_cache=fetch_cache)
        if session is None:
            return None
        own = Path(self.store_path, session_id).resolve()
        return session if Path(session.image).resolve().is_relative_to(own) else None

    def remove_session(self, session_id: str) -> None:
        """Remove a session and its files."""
        if SESSION_ID.fullmatch(session_id):
            super().remove_session(session_id)

    def add_session(
        self, data_file: str, expiry: int = 0, uncompress: bool = False, session_id: str | None = None
    ) -> tuple[str, SessionInfo]:
        """Return the id and the session of an uploaded file or folder.

        Raises:
            ImageFileError: To be unpacked, but no zip.
        """
        if not uncompress:
            return self._add(data_file, expiry, session_id)
        archive = Path(data_file)
        with tempfile.TemporaryDirectory(prefix="ct2pet-session-") as folder, removed_if_refused(archive):
            unpacked = Path(folder, "series")
            unpacked.mkdir()
            unpack(archive, unpacked, archive.name)
            return self._add(str(unpacked), expiry, session_id)

    def _add(self, data_file: str, expiry: int, session_id: str | None) -> tuple[str, SessionInfo]:
        added: tuple[str, SessionInfo] = super().add_session(data_file, expiry, False, session_id)
        return added

    def remove_expired(self) -> int:
        """Remove sessions that nobody used for long, and what a killed upload left; return how many."""
        folders = Path(self.store_path)
        if not folders.is_dir():
            return 0
        removed = 0
        for folder in folders.iterdir():
            session = self.get_session(folder.name, update_ts=False, fetch_cache=False)
            used = session.last_access_ts if session is not None else int(folder.stat().st_mtime)
            if SESSION_ID.fullmatch(folder.name) and used + self.expiry < time.time():
                self.remove_session(folder.name)
                removed += 1
        return removed
