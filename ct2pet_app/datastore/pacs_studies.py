"""The studies of a PACS, listed over DICOMweb; files are fetched when they are needed.

CTs and PETs are paired as in a folder, from the same headers: WADO-RS metadata, requested once per series and cached.
QIDO-RS queries every 20 seconds find new series. For slow or faulty PACSs, a scan has deadlines, a series without
headers is skipped, and requests to the server wait only briefly for the first listing.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ct2pet_app.datastore.study_index import StudyIndex, listing_of, log_change
from ct2pet_app.errors import NotListedYetError
from lib.dicom.remote.cache import SeriesCache
from lib.dicom.remote.daemon_pool import DaemonPool
from lib.dicom.remote.metadata import RemoteSeries
from lib.dicom.remote.pacs import Pacs
from lib.dicom.remote.single_slice import fetched_slice
from lib.dicom.scan.header_index import Content, HeaderIndex, IndexedFile
from lib.dicom.scan.scan import ScannedSeries, ScanReport, SkippedFile, studies_of
from lib.dicom.scan.series import judge_series
from lib.errors import CT2PETError, DicomError, RemoteError
from lib.types import Series, SliceSource, never_cancelled

logger = logging.getLogger(__name__)

POLL_INTERVAL_S = 20.0
MAX_NAMED = 5  # series in one message
MAX_CONCURRENT_REQUESTS = 4  # for headers of a series; a PACS may open every file for them
PARTIAL_LISTING_SERIES = 64  # new series after which a partial listing is published
PARTIAL_LISTING_AFTER_S = 2.0  # for the first partial listing
SEARCH_TIMEOUT_S = 300.0  # for the lists of all CT and PET series
HEADERS_TIMEOUT_S, HEADERS_TIMEOUT_PER_SERIES_S = 120.0, 5.0  # for the headers of all new series together
MAX_CONSECUTIVE_FAILURES = 8  # series without headers, after which the PACS counts as unavailable
LOCK_TIMEOUT_S = 30.0  # for a scan in progress
FIRST_LISTING_TIMEOUT_S = 2.0  # in a server, for requests that need the listing
FIRST_STATUS_TIMEOUT_S = 0.3  # in a server, for the status
NOT_LISTED_YET = "the PACS has not listed its series yet; try again in a moment"
Seen = tuple[ScannedSeries | None, tuple[SkippedFile, ...]]


class PacsStudies:
    """The CT and PET series of a PACS. The first call starts a thread that queries the PACS periodically.

    Args:
        pacs: The DICOMweb client.
        cache: Cache of fetched files.
        index: Path of the header cache.
        filters: Further attributes that the listed series must match.
        waits: Whether the first call waits for the full listing; in a server it waits for a short time only.
    """

    what = "the PACS"
    is_local = False

    def __init__(
        self, pacs: Pacs, cache: SeriesCache, *, index: Path, filters: Mapping[str, str], waits: bool = True
    ) -> None:
        self.name = pacs.url
        self._pacs = pacs
        self._cache = cache
        self._index = HeaderIndex(index)
        self._filters = filters
        self._waits = waits
        self._scan_lock = threading.Lock()
        self._start_lock = threading.Lock()
        self._listing: StudyIndex | None = None
        self._error = ""  # of the last scan
        self._incomplete = ""  # which series the last scan could not list, and why
        self._seen: dict[RemoteSeries, Seen] = {}
        self._failed: set[RemoteSeries] = set()
        self._listed_series: frozenset[RemoteSeries] | None = None  # the series of a full listing
        self._closed = threading.Event()
        self._first_scan = threading.Event()  # set when it has published a listing, or failed
        self._began: float | None = None  # time.monotonic() of the first call

    def listing(self) -> StudyIndex:
        """Return the latest listing; only the first calls wait for one.

        Raises:
            NotListedYetError: There is none yet.
            RemoteError: There is none, and the last query failed.
        """
        self._wait_for_first(FIRST_LISTING_TIMEOUT_S)
        if self._listing is not None:
            return self._listing
        raise RemoteError(self._error) if self._error else NotListedYetError(NOT_LISTED_YET)

    def known(self) -> StudyIndex:
        """Return the latest listing, or an empty one with the reason in `incomplete`; hardly waits in a server."""
        self._wait_for_first(FIRST_STATUS_TIMEOUT_S)
        if self._listing is not None:
            return replace(self._listing, incomplete=self._error or self._incomplete or self._listing.incomplete)
        empty = listing_of(ScanReport(self._cache.folder, (), (), ()), is_complete=False)
        return replace(empty, incomplete=self._error or NOT_LISTED_YET)

    def rescan(self) -> StudyIndex:
        """Query the PACS now and return the listing.

        Raises:
            RemoteError: The query failed; the previous listing is kept.
        """
        if not self._scan_lock.acquire(timeout=LOCK_TIMEOUT_S):
            raise RemoteError(
                f"{self.name}: another scan has been running for {LOCK_TIMEOUT_S:.0f} s; is the PACS busy?"
            )
        try:
            return self._scan_and_log()
        finally:
            self._scan_lock.release()

    def local_files(
        self, *series: Series, cancelled: Callable[[], bool] = never_cancelled
    ) -> AbstractContextManager[None]:
        """Return a context in which the files of these series are in the cache; see `lib.types.LocalFiles`."""
        return self._cache.holding(*series, cancelled=lambda: self._closed.is_set() or cancelled())

    def local_slice(
        self, series: Series, source: SliceSource, *, cancelled: Callable[[], bool] = never_cancelled
    ) -> AbstractContextManager[SliceSource]:
        """Return a context in which one slice is on this machine, fetched alone; see `fetched_slice`.

        Raises:
            RemoteError: The last query failed; previews do not wait for a PACS that is gone.
        """
        if self._error:
            raise RemoteError(self._error)
        return fetched_slice(self._pacs, series, source, cancelled=lambda: self._closed.is_set() or cancelled())

    def names_on_disk(self) -> Sequence[str]:
        """Return an empty sequence: the cache names its files by UIDs."""
        return ()

    def instances(self, series: Series) -> tuple[str, ...]:
        """Return the SOPInstanceUID of each file of a series, taken from the files' names; nothing is fetched."""
        return tuple(path.stem for path in series.files)

    def close(self) -> None:
        """Stop querying the PACS."""
        self._closed.set()

    def _wait_for_first(self, timeout_s: float) -> None:
        """Start the thread at the first call and wait for the first scan; in a server, at most `timeout_s`."""
        if self._first_scan.is_set():
            return
        with self._start_lock:
            if self._began is None:
                self._began = time.monotonic()
                threading.Thread(target=self._watch, name="PACS watch", daemon=True).start()
        remaining_s = self._began + timeout_s - time.monotonic()
        self._first_scan.wait(None if self._waits else max(remaining_s, 0.0))  # a scan has its own deadline

    def _watch(self) -> None:
        while not self._closed.is_set():
            try:
                with contextlib.suppress(CT2PETError):  # logged already
                    self.rescan()
            except Exception:  # the thread must go on, or new studies would never be listed
                logger.exception("%s: scanning for new studies failed; the next scan follows", self.name)
                self._error = self._error or f"{self.name}: scanning for studies failed; see the server's log"
            self._first_scan.set()
            self._closed.wait(POLL_INTERVAL_S)

    def _scan_and_log(self) -> StudyIndex:
        """Scan, and log the first of equal errors and the recovery."""
        try:
            listing = self._scan()
        except CT2PETError as error:
            if str(error) != self._error:
                logger.warning("%s; the previous listing is kept", error)
            self._error = str(error)
            raise
        if self._error:
            logger.info("%s: responds again", self.name)
        self._error = ""
        return listing

    def _scan(self) -> StudyIndex:
        began = time.monotonic()
        # every PET: if its study has no CT, it may belong to a CT of another study of the patient
        limits: dict[str, Any] = {"deadline": began + SEARCH_TIMEOUT_S, "cancelled": self._closed.is_set}
        found = frozenset(
            series for modality in ("CT", "PT") for series in self._pacs.find_series(modality, self._filters, **limits)
        )
        before = self._listing
        if before is not None and self._listed_series == found:
            return before
        self._listed_series = None
        self._seen = {series: seen for series, seen in self._seen.items() if series in found}
        # by study, so that a CT is not listed without its PET; the latest UIDs (often the latest dates) first
        unseen = sorted(found - set(self._seen), key=lambda one: (one.study_uid, one.uid), reverse=True)
        self._read_new(sorted(unseen, key=lambda one: one in self._failed))
        listing = self._listing = self._listed()
        self._listed_series = frozenset(self._seen)
        folders = {str(self._cache.folder_of(series.uid)) for series in found}
        self._index.forget_folders_but(folders, root=str(self._cache.folder))
        log_change(before, listing, took_s=time.monotonic() - began)
        return listing

    def _read_new(self, unseen: Sequence[RemoteSeries]) -> None:
        """Read and judge the headers of new series; results before an error are kept.

        Raises:
            RemoteError: No headers could be read of many consecutive series, or of all.
        """
        began = shown_at = time.monotonic()
        deadline = began + HEADERS_TIMEOUT_S + HEADERS_TIMEOUT_PER_SERIES_S * len(unseen)
        ended = threading.Event()
        failures: dict[RemoteSeries, RemoteError] = {}
        consecutive = shown = 0
        read = partial(self._headers, deadline=deadline, cancelled=lambda: ended.is_set() or self._closed.is_set())
        with DaemonPool(min(MAX_CONCURRENT_REQUESTS, max(len(unseen), 1)), "headers") as pool:
            try:
                for number, (series, headers) in enumerate(zip(unseen, pool.map(read, unseen), strict=True)):
                    late = time.monotonic() - shown_at > PARTIAL_LISTING_AFTER_S
                    late = late and self._listing is None and bool(self._seen)
                    if (late or number - shown >= PARTIAL_LISTING_SERIES) and series.study_uid != unseen[
                        number - 1
                    ].study_uid:
                        self._listing, shown = self._listed(is_complete=False), number
                        self._first_scan.set()
                    if isinstance(headers, RemoteError):
                        failures[series] = headers
                        consecutive += 1
                        if consecutive >= MAX_CONSECUTIVE_FAILURES or self._closed.is_set():
                            raise headers
                        continue
                    consecutive = 0
                    if headers is not None:
                        self._seen[series] = _judged(series, headers)
            except BaseException:
                ended.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        self._note_failures(failures)

    def _note_failures(self, failures: Mapping[RemoteSeries, RemoteError]) -> None:
        self._failed = set(failures)
        if failures and not self._seen:
            raise next(iter(failures.values()))
        incomplete = ""
        if failures:
            uids = ", ".join(sorted(series.uid for series in failures)[:MAX_NAMED])
            first = next(iter(failures.values()))
            incomplete = f"{len(failures)} series are not listed: reading their headers failed ({uids}); first: {first}"
        if incomplete != self._incomplete and incomplete:
            logger.warning("%s", incomplete)
        self._incomplete = incomplete

    def _headers(
        self, series: RemoteSeries, *, deadline: float, cancelled: Callable[[], bool]
    ) -> dict[str, Content] | RemoteError | None:
        """Return the content of each file of a series; None if it was removed meanwhile, or is still arriving."""
        folder = self._cache.folder_of(series.uid)
        known = self._index.known(str(folder))
        if known and all(file.size == series.instances == len(known) for file in known.values()):
            return {name: file.content for name, file in known.items()}
        try:
            headers = list(self._pacs.read_headers(series, folder, deadline=deadline, cancelled=cancelled))
        except DicomError as error:
            logger.info("%s; not listed", error)
            return None
        except RemoteError as error:  # other series may succeed
            return error
        named = {f"{n}" if isinstance(one, str) else Path(one[0].path).name: one for n, one in enumerate(headers)}
        if len(headers) == series.instances:
            kept = {name: IndexedFile(series.instances, 0, content) for name, content in named.items()}
            self._index.forget(str(folder), set(known) - set(kept))
            self._index.remember(str(folder), kept)
        return named

    def _listed(self, *, is_complete: bool = True) -> StudyIndex:
        series = sorted(
            (seen for seen, _ in self._seen.values() if seen is not None),
            key=lambda found: (found.series.patient_id, found.series.study_uid, found.series.uid),
        )
        skipped = tuple(file for _, files in self._seen.values() for file in files)
        report = ScanReport(self._cache.folder, studies_of(series), tuple(series), skipped)
        return listing_of(report, is_complete=is_complete)


def _judged(series: RemoteSeries, contents: Mapping[str, Content]) -> Seen:
    headers = [header for content in contents.values() if not isinstance(content, str) for header in content]
    skipped = tuple(SkippedFile(Path(name), why) for name, why in contents.items() if isinstance(why, str))
    try:
        return (judge_series(headers) if headers else None), skipped
    except CT2PETError:
        raise
    except Exception as error:  # headers of a PACS can contain anything; other series must not be affected
        logger.exception("series %s cannot be judged", series.uid)
        return None, (*skipped, SkippedFile(Path(series.uid), f"its headers cannot be judged ({type(error).__name__})"))
