"""Recognise series of a folder that are still being copied, by what two looks at the folder see.

No header says reliably how many slices a series has, so the rule is about files only, and cheap:

* A series that has more or fewer files than at the last look cannot be used, until a look finds it unchanged and its
  newest file is older than `SETTLE_S`.
* A series that is seen for the first time while its newest file is younger than that can be used, with a warning.

A file's age is by its status change time: copying tools restore the modification time. A time in the future tells
nothing; then two looks decide alone. What the server itself puts into the folder appears in one step and counts as
complete.
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
    """What was seen of each series at the last look.

    Args:
        own_folders: What the server writes into, in one step a series.
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
            counted = f"{before} files at the last look and {now} now" if before != now else f"{now} files now"
            reason = f"still arriving: {counted}; it can be used {SETTLE_S:.0f} s after its last file came"
            return found if found.reason else replace(found, reason=reason, geometry=None, positions_mm=())
        if not is_fresh:
            self._fresh.discard(uid)
            return found
        self._fresh.add(uid)
        warning = (
            f"may still be arriving: a file came less than {SETTLE_S:.0f} s before the folder was looked at; "
            f"{found.series.slice_count} slices so far"
        )
        return replace(found, warnings=(*found.warnings, warning))


def _is_fresh(files: Iterable[Path]) -> bool:
    """Return whether the newest file came a moment ago."""
    now = time.time()
    return any(0 <= now - changed_s < SETTLE_S for changed_s in _changed_s(files))


def _changed_s(files: Iterable[Path]) -> Iterable[float]:
    for path in files:
        try:
            yield path.stat().st_ctime
        except OSError:  # it is gone, or being replaced
            yield time.time()
