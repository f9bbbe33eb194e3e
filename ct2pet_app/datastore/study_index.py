"""The index of the studies, and a folder of studies that is scanned again when needed."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ct2pet_app.datastore.arrivals import Arrivals
from lib.dicom.read.header import read_header
from lib.dicom.scan.header_index import HeaderIndex
from lib.dicom.scan.scan import ScannedSeries, ScanReport, scan_folder
from lib.pairing.pairs import PairedSeries, pair_series
from lib.types import Series, SliceSource, never_cancelled

logger = logging.getLogger(__name__)

LETTERS = re.compile(r"[^\W\d_]{2}")  # a name without letters cannot identify a patient
MIN_RESCAN_INTERVAL_S = 3.0  # a younger listing is returned without a scan
REST = 10.0  # pause after a scan, as a multiple of its duration: a slow disk is not scanned all the time


@dataclass(frozen=True, eq=False)
class StudyIndex:
    """The studies at the time of a scan.

    Attributes:
        images: Usable CT series by UID.
        pairs: The pair of each CT that has a PET, by CT UID.
        by_pet: CT UID by PET UID, of the pairs.
        why_unpaired: Why a series is not part of a pair, by UID.
        is_complete: Whether the scan has ended; a large PACS is listed in parts.
        incomplete: Why series may be missing; empty if none is known to be missing.
    """

    report: ScanReport
    images: Mapping[str, ScannedSeries]
    pairs: Mapping[str, PairedSeries]
    by_pet: Mapping[str, str]
    why_unpaired: Mapping[str, str]
    is_complete: bool = True
    incomplete: str = ""


class Studies(Protocol):
    """A source of studies: a folder or a PACS.

    Attributes:
        name: Of the datastore.
        what: Name of the source in messages, such as `the studies folder`.
        is_local: Whether the files are on this machine; those of a PACS are fetched only when needed.
    """

    name: str
    what: str
    is_local: bool

    def listing(self) -> StudyIndex:
        """Return the listing, at most a minute old."""
        ...

    def known(self) -> StudyIndex:
        """Return the listing; if there is none yet, an empty one with the reason in `incomplete`."""
        ...

    def rescan(self) -> StudyIndex:
        """Scan now and return the listing."""
        ...

    def local_files(
        self, *series: Series, cancelled: Callable[[], bool] = never_cancelled
    ) -> AbstractContextManager[None]:
        """Return a context in which the files of these series are local; see `lib.types.LocalFiles`."""
        ...

    def local_slice(
        self, series: Series, source: SliceSource, *, cancelled: Callable[[], bool] = never_cancelled
    ) -> AbstractContextManager[SliceSource]:
        """Return a context in which the file of one slice is local; its value says where. A PACS sends it alone."""
        ...

    def instances(self, series: Series) -> tuple[str, ...]:
        """Return the SOPInstanceUID of each file of a series."""
        ...

    def names_on_disk(self) -> Sequence[str]:
        """Return the file names and folder paths of the last scan, longest first; does not scan."""
        ...


class StudiesFolder:
    """A folder of studies, read-only; a request scans it again if some seconds have passed since the last scan.

    The first request waits for the first scan; later scans open only files that have changed.
    """

    is_local = True

    def __init__(self, root: Path, *, index: Path, own_folders: Sequence[str] = ()) -> None:
        self.root = root
        self.name = root.name
        self.what = "the studies folder"
        self._index = HeaderIndex(index)
        self._arrivals = Arrivals(Path(os.path.realpath(root)) / name for name in own_folders)
        self._scanning = threading.Lock()
        self._listing: StudyIndex | None = None
        self._names: Sequence[str] = ()
        self._rescan_at = 0.0  # time.monotonic()

    def listing(self) -> StudyIndex:
        """Return the listing, at most a few seconds old.

        While one caller scans, others get the previous listing; only the first callers wait.

        Raises:
            StudiesError: The folder is missing or cannot be read.
        """
        listing = self._listing
        if listing is not None and time.monotonic() < self._rescan_at:
            return listing
        if listing is not None and not self._scanning.acquire(blocking=False):
            return listing
        if listing is None:
            self._scanning.acquire()
        try:
            if self._listing is None or time.monotonic() >= self._rescan_at:
                self._listing = self._scan()
            return self._listing
        finally:
            self._scanning.release()

    def known(self) -> StudyIndex:
        """Return the listing; see `listing`."""
        return self.listing()

    def rescan(self) -> StudyIndex:
        """Scan now and return the listing."""
        with self._scanning:
            self._listing = self._scan()
            return self._listing

    def local_files(
        self, *series: Series, cancelled: Callable[[], bool] = never_cancelled
    ) -> AbstractContextManager[None]:
        """Return a context that does nothing: the files are in the folder."""
        return nullcontext()

    def local_slice(
        self, series: Series, source: SliceSource, *, cancelled: Callable[[], bool] = never_cancelled
    ) -> AbstractContextManager[SliceSource]:
        """Return a context whose value is `source`: the file is in the folder."""
        return nullcontext(source)

    def instances(self, series: Series) -> tuple[str, ...]:
        """Return the SOPInstanceUID of each file of a series, read from the files.

        Raises:
            DicomError: A file is damaged.
        """
        return instances_in(series.files)

    def names_on_disk(self) -> Sequence[str]:
        """Return the file names and folder paths of the last scan, longest first; does not scan."""
        return self._names

    def _scan(self) -> StudyIndex:
        began = time.monotonic()
        listing = listing_of(self._arrivals.judged(scan_folder(self.root, index=self._index)))
        took = time.monotonic() - began
        self._rescan_at = time.monotonic() + max(MIN_RESCAN_INTERVAL_S, REST * took)
        self._names = names_in(listing.report)
        log_change(self._listing, listing, took_s=took)
        return listing


def instances_in(files: Iterable[Path]) -> tuple[str, ...]:
    """Return the SOPInstanceUID of each file; raise DicomError if one is damaged."""
    return tuple(read_header(path).sop_instance_uid for path in files)


def names_in(report: ScanReport) -> Sequence[str]:
    """Return the names of a folder's files and the paths of its folders, longest first."""
    paths = [path for found in report.series for path in found.series.files]
    paths += [skipped.path for skipped in report.skipped]
    folders = {path.parent for path in paths} - {report.root}
    names = {path.name for path in paths} | {str(folder) for folder in folders}
    return sorted((name for name in names if LETTERS.search(name)), key=len, reverse=True)


def listing_of(report: ScanReport, *, is_complete: bool = True) -> StudyIndex:
    """Return the images and pairs among the series of a report."""
    pairing = pair_series(report)
    pairs = {paired.pair.ct.uid: paired for paired in pairing.pairs}
    images = {uid: paired.ct for uid, paired in pairs.items()}
    for found in report.usable("CT"):
        images.setdefault(found.series.uid, found)
    return StudyIndex(
        report=report,
        images=images,
        pairs=pairs,
        by_pet={paired.pair.pet.uid: uid for uid, paired in pairs.items()},
        why_unpaired={unpaired.series_uid: unpaired.reason for unpaired in pairing.unpaired},
        is_complete=is_complete,
    )


def log_change(before: StudyIndex | None, now: StudyIndex, *, took_s: float) -> None:
    """Log the numbers of series and pairs if images or pairs have changed."""
    if before is None or set(before.images) != set(now.images) or set(before.pairs) != set(now.pairs):
        logger.info("studies: %d CT series, %d with a PET, scanned in %.1f s", len(now.images), len(now.pairs), took_s)
