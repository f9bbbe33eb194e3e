"""Complete series: they become part of the studies, and rules decide which synthetic PET is made of them."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

from ct2pet_app.dicom_node.audit import AuditTrail
from ct2pet_app.dicom_node.database import QueueDatabase
from ct2pet_app.dicom_node.inbox import Inbox, ReceivedSeries, is_unchanged
from ct2pet_app.dicom_node.settings import PeersFile, Rule
from ct2pet_app.server.log_redaction import where
from lib.dicom.keywords import read_texts
from lib.dicom.scan.scan import ScannedSeries, scan_folder
from lib.errors import CT2PETError, RemoteError

logger = logging.getLogger(__name__)

# how many instances of a series its sender has, by AE title, study and series; None if it cannot tell
Count = Callable[[str, str, str], int | None]


class Completion:
    """Looks for series that are complete."""

    def __init__(
        self, inbox: Inbox, database: QueueDatabase, *, audit: AuditTrail, settings: PeersFile, count: Count
    ) -> None:
        self._inbox, self._database, self._audit = inbox, database, audit
        self._settings, self._count = settings, count

    def look(self) -> None:
        """Complete each series of which no instance has arrived for the quiet time."""
        for series in self._inbox.due(self._settings.node.quiet_s):
            try:
                self._consider(series)
            except Exception as error:  # a full disk, or a fault of ours: the others go on, and it is tried again
                logger.error("series %s cannot be completed: %s", series.uid, where(error))
                self._wait(series, f"unexpected {type(error).__name__}; see the log")

    def _consider(self, series: ReceivedSeries) -> None:
        missing = self._missing(series)
        if missing and time.time() < series.first_at + self._settings.node.incomplete_after_s:
            self._wait(series, missing)
            return
        if missing:
            self._end(series, "incomplete", missing, "series_incomplete")
            return
        folder = self._inbox.publish(series)
        if folder is None:
            return
        found, reason = usable_ct(folder, series.uid)
        if found is None:
            self._end(series, "unusable", reason, "series_unusable")
            return
        self._decide(series, found)

    def _wait(self, series: ReceivedSeries, reason: str) -> None:
        if self._inbox.wait_longer(series, reason):  # once, not every few seconds
            self._write("series_waits", series, instances=series.instances, reason=reason)

    def _missing(self, series: ReceivedSeries) -> str:
        """Return why a series is not complete, as its sender says; empty if it is, or the sender is not queried."""
        sender = self._settings.sender(series.aet)
        if sender is None or not sender.confirm_count:
            return ""
        try:
            expected = self._count(series.aet, series.study_uid, series.uid)
        except RemoteError as error:
            return f"its sender does not answer how many instances it has ({error})"
        if expected is None or expected <= series.instances:
            return ""
        return f"{series.instances} of {expected} instances have arrived"

    def _decide(self, series: ReceivedSeries, found: ScannedSeries) -> None:
        matching = [rule for rule in self._settings.rules if holds(rule, found.series.files[0])]
        with self._database.transaction() as connection:
            if not is_unchanged(connection, series):
                return
            uids = [
                row["uid"]
                for row in connection.execute(
                    "SELECT uid FROM instance WHERE series_uid = ? ORDER BY uid", (series.uid,)
                )
            ]
            content = hashlib.sha256("\n".join(uids).encode()).hexdigest()
            connection.execute("UPDATE series SET state = 'complete', reason = '' WHERE uid = ?", (series.uid,))
            for rule in matching:
                connection.execute(
                    "INSERT INTO job (series_uid, content, model, send_to, state, since) "
                    "VALUES (?, ?, ?, ?, 'waiting', ?) ON CONFLICT DO NOTHING",
                    (series.uid, content, rule.model, rule.send_to, time.time()),
                )
            connection.execute(  # sent again by someone who knows why it failed
                "UPDATE job SET state = CASE result_uid WHEN '' THEN 'waiting' ELSE 'made' END, begun = 0, "
                "attempts = 0, not_before = 0, since = ?, reason = '' WHERE series_uid = ? AND state = 'failed'",
                (time.time(), series.uid),
            )
        self._write("series_complete", series, instances=len(uids))
        for rule in matching:
            self._write("rule_matched", series, rule=rule.when.text, model=rule.model, send_to=rule.send_to)
        if not matching:
            self._write("no_rule_matched", series)

    def _end(self, series: ReceivedSeries, state: str, reason: str, event: str) -> None:
        with self._database.transaction() as connection:
            if not is_unchanged(connection, series):
                return
            connection.execute("UPDATE series SET state = ?, reason = ? WHERE uid = ?", (state, reason, series.uid))
        self._write(event, series, instances=series.instances, reason=reason)

    def _write(self, event: str, series: ReceivedSeries, **details: str | int) -> None:
        self._audit.write(
            event, aet=series.aet, address=series.address, study_uid=series.study_uid, series_uid=series.uid, **details
        )


def usable_ct(folder: Path, series_uid: str) -> tuple[ScannedSeries | None, str]:
    """Return the CT in a folder, as the scan of the studies judges it; None and the reason if it is not usable."""
    try:
        report = scan_folder(folder)
    except CT2PETError:
        return None, "its files are no longer there"
    usable = [found for found in report.usable("CT") if found.series.uid == series_uid]
    if len(usable) == 1:
        return usable[0], ""
    reasons = [found.reason for found in report.series if found.reason]
    return None, "; ".join(dict.fromkeys(reasons))[:500] or "no file of it can be read as a CT"


def holds(rule: Rule, path: Path) -> bool:
    """Return whether the condition of a rule holds for a series, by the header of its first slice."""
    try:
        return rule.when.holds(read_texts(path, rule.when.keywords))
    except CT2PETError:  # the scan has just read it; it was damaged meanwhile
        return False
