"""Which studies there are at a moment, and in a folder, when to look again."""

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
from lib.types import Series, never_cancelled

logger = logging.getLogger(__name__)

LETTERS = re.compile(r"[^\W\d_]{2}")  # no number names anybody
MIN_RESCAN_INTERVAL_S = 3.0  # a listing younger than this is taken as it is
REST = 10.0  # a scan that took t seconds is followed by a rest of this many t: a slow disk is not scanned all the time


@dataclass(frozen=True, eq=False)
class StudyIndex:
    """The studies as they were looked at.

    Attributes:
        images: Usable CT series by UID.
        pairs: The pair of each CT that has a PET, by CT UID.
        by_pet: CT UID by PET UID, of the pairs.
        why_unpaired: Why a series has no partner, by UID.
        is_whole: Whether all was looked at; a large PACS is shown while it still is.
        incomplete: Why not all is listed; empty where nothing is known to be missing.
    """

    report: ScanReport
    images: Mapping[str, ScannedSeries]
    pairs: Mapping[str, PairedSeries]
    by_pet: Mapping[str, str]
    why_unpaired: Mapping[str, str]
    is_whole: bool = True
    incomplete: str = ""


class Studies(Protocol):
    """A place that studies are in.

    Attributes:
        name: Of the datastore.
        what: How the place is called in messages, such as `the studies folder`.
        lies_here: Whether reading all its pixels costs nothing but time; those of a PACS are brought only when needed.
    """

    name: str
    what: str
    is_local: bool

    def listing(self) -> StudyIndex:
        """Return the listing, at most a minute old."""
        ...

    def known(self) -> StudyIndex:
        """Return the listing; where none can be had soon, an empty one that says so in `incomplete`."""
        ...

    def rescan(self) -> StudyIndex:
        """Return a listing made now."""
        ...

    def at_hand(self, *series: Series, cancelled: Callable[[], bool] = never_cancelled) -> AbstractContextManager[None]:
        """Return a context in which the files of these series lie where `Series.files` says; see `lib.types.AtHand`."""
        ...

    def instances(self, series: Series) -> tuple[str, ...]:
        """Return the SOPInstanceUID of each file of a series."""
        ...

    def names_on_disk(self) -> Sequence[str]:
        """Return what others named: files, and paths of folders, as seen last; longest first. Looks at nothing now."""
        ...


class StudiesFolder:
    """A folder of studies that is looked at again when it is asked for and some seconds have passed.

    Only reads. The first question waits for the first scan; later ones reopen no file that has not changed.
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
        self._look_again_at = 0.0  # time.monotonic()

    def listing(self) -> StudyIndex:
        """Return the listing, at most a few seconds old.

        While one caller scans, others get the listing before; only the very first have to wait.

        Raises:
            StudiesError: The folder is missing or may not be read.
        """
        listing = self._listing
        if listing is not None and time.monotonic() < self._look_again_at:
            return listing
        if listing is not None and not self._scanning.acquire(blocking=False):
            return listing
        if listing is None:
            self._scanning.acquire()
        try:
            if self._listing is None or time.monotonic() >= self._look_again_at:
                self._listing = self._scan()
            return self._listing
        finally:
            self._scanning.release()

    def known(self) -> StudyIndex:
        """Return the listing; see `listing`."""
        return self.listing()

    def rescan(self) -> StudyIndex:
        """Return the listing of a scan made now."""
        with self._scanning:
            self._listing = self._scan()
            return self._listing

    def at_hand(self, *series: Series, cancelled: Callable[[], bool] = never_cancelled) -> AbstractContextManager[None]:
        """Return a context that does nothing: the files are in the folder."""
        return nullcontext()

    def instances(self, series: Series) -> tuple[str, ...]:
        """Return the SOPInstanceUID of each file of a series, out of the files.

        Raises:
            DicomError: A file is damaged.
        """
        return instances_in(series.files)

    def names_on_disk(self) -> Sequence[str]:
        """Return the names of files and the paths of folders, as seen last; longest first. Looks at nothing now."""
        return self._names

    def _scan(self) -> StudyIndex:
        began = time.monotonic()
        listing = listing_of(self._arrivals.judged(scan_folder(self.root, index=self._index)))
        took = time.monotonic() - began
        self._look_again_at = time.monotonic() + max(MIN_RESCAN_INTERVAL_S, REST * took)
        self._names = names_in(listing.report)
        log_change(self._listing, listing, took_s=took)
        return listing


def instances_in(files: Iterable[Path]) -> tuple[str, ...]:
    """Return the SOPInstanceUID of each file; DicomError where one is damaged."""
    return tuple(read_header(path).sop_instance_uid for path in files)


def names_in(report: ScanReport) -> Sequence[str]:
    """Return the names of a folder's files and the paths of its folders, longest first."""
    paths = [path for found in report.series for path in found.series.files]
    paths += [skipped.path for skipped in report.skipped]
    folders = {path.parent for path in paths} - {report.root}
    names = {path.name for path in paths} | {str(folder) for folder in folders}
    return sorted((name for name in names if LETTERS.search(name)), key=len, reverse=True)


def listing_of(report: ScanReport, *, is_whole: bool = True) -> StudyIndex:
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
        is_whole=is_whole,
    )


def log_change(before: StudyIndex | None, now: StudyIndex, *, took_s: float) -> None:
    """Log what there is, where images or pairs have come or gone."""
    if before is None or set(before.images) != set(now.images) or set(before.pairs) != set(now.pairs):
        logger.info("studies: %d CT series, %d with a PET, seen in %.1f s", len(now.images), len(now.pairs), took_s)
