"""Recognise series of a folder that are still being copied, by comparing two scans.

No header reliably gives the number of slices of a series, so only the files are considered:

* A series that has more or fewer files than in the previous scan cannot be used until a scan finds it unchanged and
  its newest file is older than `SETTLE_S`.
* A series that is seen for the first time while its newest file is younger than that can be used, with a warning.

The age of a file is based on its status change time, because copying tools restore the modification time. If that is in
the future, only the two scans count. Series that the server itself writes appear atomically and count as complete.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from lib.dicom.scan.scan import ScannedSeries, ScanReport, studies_of

SETTLE_S = 10.0  # a network copy rarely takes longer for one slice
MODALITIES = ("CT", "PT")


class Arrivals:
    """The state of each series in the previous scan.

    Args:
        own_folders: Folders into which the server writes each series atomically.
    """

    def __init__(self, own_folders: Iterable[Path] = ()) -> None:
        self._own = tuple(own_folders)
        self._counts: dict[str, int] = {}
        self._growing: set[str] = set()
        self._fresh: set[str] = set()

    def judged(self, report: ScanReport) -> ScanReport:
        """Return a report in which series that are still arriving cannot be used, or have a warning."""
        series = tuple(self._judged(found) for found in report.series)
        uids = {found.series.uid for found in series}
        self._counts = {uid: count for uid, count in self._counts.items() if uid in uids}
        self._growing &= uids
        self._fresh &= uids
        if all(one is other for one, other in zip(series, report.series, strict=True)):
            return report
        return replace(report, series=series, studies=studies_of(series))

    def _judged(self, found: ScannedSeries) -> ScannedSeries:
        if found.series.modality not in MODALITIES:
            return found
        uid = found.series.uid
        files = [path for path in found.series.files if not any(path.is_relative_to(own) for own in self._own)]
        before, now = self._counts.get(uid), len(files)
        self._counts[uid] = now
        if before == now and uid not in self._growing | self._fresh:
            return found
        is_fresh = _is_fresh(files)
        if before is not None and before != now:
            self._growing.add(uid)
        elif not is_fresh:
            self._growing.discard(uid)
        if uid in self._growing:
            self._fresh.discard(uid)
            counted = f"{before} files in the previous scan and {now} now" if before != now else f"{now} files now"
            reason = f"still arriving: {counted}; it can be used {SETTLE_S:.0f} s after its last file arrived"
            return found if found.reason else replace(found, reason=reason, geometry=None, positions_mm=())
        if not is_fresh:
            self._fresh.discard(uid)
            return found
        self._fresh.add(uid)
        warning = (
            f"may still be arriving: a file arrived less than {SETTLE_S:.0f} s before the scan; "
            f"{found.series.slice_count} slices so far"
        )
        return replace(found, warnings=(*found.warnings, warning))


def _is_fresh(files: Iterable[Path]) -> bool:
    """Return whether the newest file arrived within the last `SETTLE_S`."""
    now = time.time()
    return any(0 <= now - changed_s < SETTLE_S for changed_s in _changed_s(files))


def _changed_s(files: Iterable[Path]) -> Iterable[float]:
    for path in files:
        try:
            yield path.stat().st_ctime
        except OSError:  # removed, or being replaced
            yield time.time()
