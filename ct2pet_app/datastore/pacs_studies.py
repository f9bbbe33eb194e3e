"""The studies of a PACS: which series there are, asked over DICOMweb, files fetched when they are needed.

Which CT belongs to which PET is decided as for a folder, on the same headers: WADO-RS metadata, asked for once a series
and remembered. A few QIDO-RS questions every 20 seconds find what is new. A PACS may be slow, or broken: a look has
deadlines, a series whose headers do not come costs itself, and in a server nobody waits long for the first listing.
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
from lib.dicom.scan.header_index import Content, HeaderIndex, IndexedFile
from lib.dicom.scan.scan import ScannedSeries, ScanReport, SkippedFile, studies_of
from lib.dicom.scan.series import judge_series
from lib.errors import CT2PETError, DicomError, RemoteError
from lib.types import Series, never_cancelled

logger = logging.getLogger(__name__)

POLL_INTERVAL_S = 20.0
MAX_NAMED = 5  # series in one sentence
ASKED_AT_ONCE = 4  # series' headers; a PACS may open every file for them
SHOWN_AFTER = 64  # new series: a large PACS is not waited for as a whole
SHOWN_AFTER_S = 2.0  # the first of them
SEARCH_TIMEOUT_S = 300.0  # of the lists of all CT and of all PET series
HEADERS_TIMEOUT_S, HEADERS_TIMEOUT_PER_SERIES_S = 120.0, 5.0  # of the headers of all new series together
MAX_FAILURES_IN_A_ROW = 8  # series whose headers do not come: then the PACS itself does not work
LOCK_TIMEOUT_S = 30.0  # for a look that is under way
FIRST_LISTING_TIMEOUT_S = 2.0  # in a server, for what needs the listing
FIRST_STATUS_TIMEOUT_S = 0.3  # in a server, for what counts what is there
NOT_LISTED_YET = "the PACS has not listed its series yet; ask again in a moment"
Seen = tuple[ScannedSeries | None, tuple[SkippedFile, ...]]


class PacsStudies:
    """The CT and PET series of a PACS. Asks nothing before the first question; then looks again by itself.

    Args:
        pacs: What is asked.
        cache: Where files are fetched to.
        index: What is remembered of headers.
        filters: Further attributes of the series to list.
        waits: Whether the first question waits until all is looked at, or as long as a server may let a client wait.
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
        self._looking = threading.Lock()
        self._beginning = threading.Lock()
        self._listing: StudyIndex | None = None
        self._trouble = ""  # of the last look
        self._incomplete = ""  # what the last look has not seen, and why
        self._seen: dict[RemoteSeries, Seen] = {}
        self._failed: set[RemoteSeries] = set()
        self._listed_for: frozenset[RemoteSeries] | None = None  # what the listing holds, once it holds all
        self._closed = threading.Event()
        self._first_look = threading.Event()  # set once it has shown something, or failed
        self._began: float | None = None  # time.monotonic() of the first question

    def listing(self) -> StudyIndex:
        """Return the newest listing; only the very first questions wait for one.

        Raises:
            NotListedYetError: There is none yet.
            RemoteError: There is none, and the PACS could not be asked some seconds ago.
        """
        self._wait_for_first(FIRST_LISTING_TIMEOUT_S)
        if self._listing is not None:
            return self._listing
        raise RemoteError(self._trouble) if self._trouble else NotListedYetError(NOT_LISTED_YET)

    def known(self) -> StudyIndex:
        """Return the newest listing, or an empty one that says why; in a server nobody waits for it."""
        self._wait_for_first(FIRST_STATUS_TIMEOUT_S)
        if self._listing is not None:
            return replace(self._listing, incomplete=self._trouble or self._incomplete or self._listing.incomplete)
        nothing = listing_of(ScanReport(self._cache.folder, (), (), ()), is_whole=False)
        return replace(nothing, incomplete=self._trouble or NOT_LISTED_YET)

    def rescan(self) -> StudyIndex:
        """Return a listing made now.

        Raises:
            RemoteError: The PACS cannot be asked; the listing before stays.
        """
        if not self._looking.acquire(timeout=LOCK_TIMEOUT_S):
            raise RemoteError(f"{self.name}: is being looked at since {LOCK_TIMEOUT_S:.0f} s; is the PACS busy?")
        try:
            return self._look_and_tell()
        finally:
            self._looking.release()

    def at_hand(self, *series: Series, cancelled: Callable[[], bool] = never_cancelled) -> AbstractContextManager[None]:
        """Return a context in which the files of these series lie in the cache; see `lib.types.AtHand`."""
        return self._cache.holding(*series, cancelled=lambda: self._closed.is_set() or cancelled())

    def names_on_disk(self) -> Sequence[str]:
        """Return nothing: the cache names its files by UIDs."""
        return ()

    def instances(self, series: Series) -> tuple[str, ...]:
        """Return the SOPInstanceUID of each file of a series, which are the files' names; nothing is fetched."""
        return tuple(path.stem for path in series.files)

    def close(self) -> None:
        """Look no more."""
        self._closed.set()

    def _wait_for_first(self, timeout_s: float) -> None:
        """Begin to watch at the first question; wait for the first look, in a server no longer than so after that."""
        if self._first_look.is_set():
            return
        with self._beginning:
            if self._began is None:
                self._began = time.monotonic()
                threading.Thread(target=self._watch, name="PACS watch", daemon=True).start()
        left = self._began + timeout_s - time.monotonic()
        self._first_look.wait(None if self._waits else max(left, 0.0))  # a look has a deadline of its own

    def _watch(self) -> None:
        while not self._closed.is_set():
            try:
                with contextlib.suppress(CT2PETError):  # told already
                    self.rescan()
            except Exception:  # a watch that ended would never see a new study, and nobody would know
                logger.exception("%s: looking for new studies failed; it goes on", self.name)
                self._trouble = self._trouble or f"{self.name}: looking for studies failed; the server's log says why"
            self._first_look.set()
            self._closed.wait(POLL_INTERVAL_S)

    def _look_and_tell(self) -> StudyIndex:
        """Look, and log when trouble begins and when it ends."""
        try:
            listing = self._look()
        except CT2PETError as error:
            if str(error) != self._trouble:
                logger.warning("%s; what was seen before stays listed", error)
            self._trouble = str(error)
            raise
        if self._trouble:
            logger.info("%s: answers again", self.name)
        self._trouble = ""
        return listing

    def _look(self) -> StudyIndex:
        began = time.monotonic()
        # every PET: where its study holds no CT, one of the patient's other studies may be its own
        limits: dict[str, Any] = {"deadline": began + SEARCH_TIMEOUT_S, "cancelled": self._closed.is_set}
        found = frozenset(
            series for modality in ("CT", "PT") for series in self._pacs.find_series(modality, self._filters, **limits)
        )
        before = self._listing
        if before is not None and self._listed_for == found:
            return before
        self._listed_for = None
        self._seen = {series: seen for series, seen in self._seen.items() if series in found}
        # study by study, so that a CT is not listed without its PET; the latest UIDs, often the latest dates, first
        unseen = sorted(found - set(self._seen), key=lambda one: (one.study_uid, one.uid), reverse=True)
        self._see(sorted(unseen, key=lambda one: one in self._failed))
        listing = self._listing = self._listed()
        self._listed_for = frozenset(self._seen)
        folders = {str(self._cache.folder_of(series.uid)) for series in found}
        self._index.forget_folders_but(folders, root=str(self._cache.folder))
        log_change(before, listing, took_s=time.monotonic() - began)
        return listing

    def _see(self, unseen: Sequence[RemoteSeries]) -> None:
        """Read the headers of new series and judge them; what was seen before trouble comes stays seen.

        Raises:
            RemoteError: Of many series in a row, or of all, no headers come.
        """
        began = shown_at = time.monotonic()
        deadline = began + HEADERS_TIMEOUT_S + HEADERS_TIMEOUT_PER_SERIES_S * len(unseen)
        ended = threading.Event()
        failures: dict[RemoteSeries, RemoteError] = {}
        in_a_row = shown = 0
        read = partial(self._headers, deadline=deadline, cancelled=lambda: ended.is_set() or self._closed.is_set())
        with DaemonPool(min(ASKED_AT_ONCE, max(len(unseen), 1)), "headers") as pool:
            try:
                for number, (series, headers) in enumerate(zip(unseen, pool.map(read, unseen), strict=True)):
                    late = self._listing is None and time.monotonic() - shown_at > SHOWN_AFTER_S and self._seen
                    if (late or number - shown >= SHOWN_AFTER) and series.study_uid != unseen[number - 1].study_uid:
                        self._listing, shown = self._listed(is_whole=False), number
                        self._first_look.set()
                    if isinstance(headers, RemoteError):
                        failures[series] = headers
                        in_a_row += 1
                        if in_a_row >= MAX_FAILURES_IN_A_ROW or self._closed.is_set():
                            raise headers
                        continue
                    in_a_row = 0
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
            incomplete = (
                f"{len(failures)} series are not listed, for their headers do not come ({uids}); first: {first}"
            )
        if incomplete != self._incomplete and incomplete:
            logger.warning("%s", incomplete)
        self._incomplete = incomplete

    def _headers(
        self, series: RemoteSeries, *, deadline: float, cancelled: Callable[[], bool]
    ) -> dict[str, Content] | RemoteError | None:
        """Return what is known of each file of a series; None where it is gone meanwhile, or still arriving."""
        folder = self._cache.folder_of(series.uid)
        known = self._index.known(str(folder))
        if known and all(file.size == series.instances == len(known) for file in known.values()):
            return {name: file.content for name, file in known.items()}
        try:
            told = list(self._pacs.read_headers(series, folder, deadline=deadline, cancelled=cancelled))
        except DicomError as error:
            logger.info("%s; not listed", error)
            return None
        except RemoteError as error:  # the other series may well come
            return error
        named = {f"{n}" if isinstance(one, str) else Path(one[0].path).name: one for n, one in enumerate(told)}
        if len(told) == series.instances:
            kept = {name: IndexedFile(series.instances, 0, content) for name, content in named.items()}
            self._index.forget(str(folder), set(known) - set(kept))
            self._index.remember(str(folder), kept)
        return named

    def _listed(self, *, is_whole: bool = True) -> StudyIndex:
        series = sorted(
            (seen for seen, _ in self._seen.values() if seen is not None),
            key=lambda found: (found.series.patient_id, found.series.study_uid, found.series.uid),
        )
        skipped = tuple(file for _, files in self._seen.values() for file in files)
        report = ScanReport(self._cache.folder, studies_of(series), tuple(series), skipped)
        return listing_of(report, is_whole=is_whole)


def _judged(series: RemoteSeries, contents: Mapping[str, Content]) -> Seen:
    whole = [header for content in contents.values() if not isinstance(content, str) for header in content]
    skipped = tuple(SkippedFile(Path(name), why) for name, why in contents.items() if isinstance(why, str))
    try:
        return (judge_series(whole) if whole else None), skipped
    except CT2PETError:
        raise
    except Exception as error:  # headers of a PACS can hold anything; the other series are not to pay for it
        logger.exception("series %s cannot be judged", series.uid)
        return None, (*skipped, SkippedFile(Path(series.uid), f"its headers cannot be judged ({type(error).__name__})"))
