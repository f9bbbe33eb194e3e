"""The audit trail of a DICOM node: one JSON object a line, who did what when, by UIDs and never by a patient's name."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

logger = logging.getLogger(__name__)

REFUSALS_PER_MINUTE = 60  # further refused associations are counted only: anyone can cause them, and fill a disk


class AuditTrail:
    """Appends lines to a file that threads and processes share; logrotate may move it away at any time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._minute, self._refusals, self._omitted = 0, 0, 0

    def write(self, event: str, **details: str | int | None) -> None:
        """Append a line.

        Args:
            event: What happened, as docs/dicom-node.md lists.
            details: AE titles, addresses, UIDs, counts and reasons; those without a value are left out.

        What cannot be written, on a full disk, is an error in the log: the steps themselves decide what fails.
        """
        with self._lock:
            if event == "association_refused" and self._is_beyond_limit():
                return
            omitted, self._omitted = self._omitted, 0
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event}
        filled = {name: value for name, value in details.items() if value not in (None, "")}
        counted = {"refusals_not_listed": omitted} if omitted else {}
        content = json.dumps({**line, **filled, **counted}) + "\n"
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(descriptor, content.encode("ascii"))  # at once: lines of two processes do not mix
            finally:
                os.close(descriptor)
        except OSError as error:
            logger.error("%s is missing in the audit trail: %s", event, error.strerror)

    def _is_beyond_limit(self) -> bool:
        minute = int(time.monotonic() // 60)
        if minute != self._minute:
            self._minute, self._refusals = minute, 0
        self._refusals += 1
        if self._refusals <= REFUSALS_PER_MINUTE:
            return False
        self._omitted += 1
        return True
