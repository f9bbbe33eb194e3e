"""A PACS as MONAI Label's datastore: asked over DICOMweb which series there are, files fetched when they are needed.

Which CT belongs to which PET is decided as for a folder, on the same headers: WADO-RS metadata, asked for once a series
and remembered. A few QIDO-RS questions every 20 seconds find what is new.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

from monailabel.config import settings as monailabel_settings

from ct2pet_app.datastore.listing import Listing, listing_of, tell_change
from ct2pet_app.datastore.studies import StudiesDatastore
from ct2pet_app.settings import AppSettings
from lib.dicom.index import Content, HeaderIndex, IndexedFile
from lib.dicom.remote.cache import SeriesCache
from lib.dicom.remote.pacs import Pacs, Prefixes, RemoteSeries
from lib.dicom.remote.session import Credentials
from lib.dicom.scan import ScannedSeries, ScanReport, SkippedFile, studies_of
from lib.dicom.scanned_series import judge_series
from lib.dicom.synthetic import SyntheticSeries
from lib.errors import CT2PETError, DicomError, RemoteError
from lib.memory import MemoryBudget
from lib.pairing.split import Split
from lib.types import Series, never_cancelled

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 20.0
ASKED_AT_ONCE = 4  # series' headers; a PACS may open every file for them
SHOWN_AFTER = 64  # new series: a large PACS is not waited for as a whole
Seen = tuple[ScannedSeries | None, tuple[SkippedFile, ...]]


class PacsStudies:
    """The CT and PET series of a PACS. Asks nothing before the first question; then looks again by itself."""

    what = "the PACS"
    lies_here = False

    def __init__(self, pacs: Pacs, cache: SeriesCache, *, index: Path, filters: Mapping[str, str]) -> None:
        self.name = pacs.url
        self._pacs = pacs
        self._cache = cache
        self._index = HeaderIndex(index)
        self._filters = filters
        self._looking = threading.Lock()
        self._listing: Listing | None = None
        self._trouble = ""  # of the last look
        self._seen: dict[RemoteSeries, Seen] = {}
        self._listed_for: frozenset[RemoteSeries] | None = None  # what the listing holds, once it holds all
        self._closed = threading.Event()
        self._watcher: threading.Thread | None = None

    def listing(self) -> Listing:
        """Return the newest listing; only the very first question waits for one.

        Raises:
            RemoteError: There is none yet, and the PACS could not be asked some seconds ago.
        """
        if self._listing is None and self._trouble:
            raise RemoteError(self._trouble)
        return self._listing or self._first_listing()

    def look_again(self) -> Listing:
        """Return a listing made now.

        Raises:
            RemoteError: The PACS cannot be asked; the listing before stays.
        """
        with self._looking:
            return self._look_and_tell()

    def at_hand(self, *series: Series, cancelled: Callable[[], bool] = never_cancelled) -> AbstractContextManager[None]:
        """Return a context in which the files of these series lie in the cache; see `lib.types.AtHand`."""
        return self._cache.holding(*series, cancelled=cancelled)

    def names_on_disk(self) -> Sequence[str]:
        """Return nothing: the cache names its files by UIDs."""
        return ()

    def instances(self, series: Series) -> tuple[str, ...]:
        """Return the SOPInstanceUID of each file of a series, which are the files' names; nothing is fetched."""
        return tuple(path.stem for path in series.files)

    def close(self) -> None:
        """Look no more."""
        self._closed.set()

    def _first_listing(self) -> Listing:
        while not self._looking.acquire(timeout=0.2):
            if self._listing is not None:
                return self._listing
        try:
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="PACS watch", daemon=True)
                self._watcher.start()
            return self._listing or self._look_and_tell()
        finally:
            self._looking.release()

    def _watch(self) -> None:
        while not self._closed.wait(LOOK_EVERY_S):
            try:
                with contextlib.suppress(CT2PETError):  # told already
                    self.look_again()
            except Exception:  # a watch that ended would never see a new study, and nobody would know
                logger.exception("%s: looking for new studies failed; it goes on", self.name)

    def _look_and_tell(self) -> Listing:
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

    def _look(self) -> Listing:
        began = time.monotonic()
        # every PET: where its study holds no CT, one of the patient's other studies may be its own
        found = frozenset((*self._pacs.find_series("CT", self._filters), *self._pacs.find_series("PT", self._filters)))
        before = self._listing
        if before is not None and self._listed_for == found:
            return before
        self._listed_for = None
        self._seen = {series: seen for series, seen in self._seen.items() if series in found}
        # study by study, so that a CT is not listed without its PET; the latest UIDs, often the latest dates, first
        self._see(sorted(found - set(self._seen), key=lambda one: (one.study_uid, one.uid), reverse=True))
        listing = self._listing = self._listed()
        self._listed_for = frozenset(self._seen)
        folders = {str(self._cache.folder_of(series.uid)) for series in found}
        self._index.forget_folders_but(folders, root=str(self._cache.folder))
        tell_change(before, listing, took_s=time.monotonic() - began)
        return listing

    def _see(self, unseen: Sequence[RemoteSeries]) -> None:
        """Read the headers of new series and judge them; what was seen before trouble comes stays seen."""
        with ThreadPoolExecutor(ASKED_AT_ONCE, thread_name_prefix="headers") as pool:
            try:
                shown = 0
                for number, headers in enumerate(pool.map(self._headers, unseen)):
                    series = unseen[number]
                    if number - shown >= SHOWN_AFTER and series.study_uid != unseen[number - 1].study_uid:
                        self._listing, shown = self._listed(is_whole=False), number
                    if headers is not None:
                        self._seen[series] = _judged(headers)
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _headers(self, series: RemoteSeries) -> dict[str, Content] | None:
        """Return what is known of each file of a series; None where it is gone meanwhile, or still arriving."""
        folder = self._cache.folder_of(series.uid)
        known = self._index.known(str(folder))
        if known and all(file.size == series.instances == len(known) for file in known.values()):
            return {name: file.content for name, file in known.items()}
        try:
            told = list(self._pacs.read_headers(series, folder))
        except DicomError as error:
            logger.info("%s; not listed", error)
            return None
        named = {f"{n}" if isinstance(one, str) else Path(one[0].path).name: one for n, one in enumerate(told)}
        if len(told) == series.instances:
            kept = {name: IndexedFile(series.instances, 0, content) for name, content in named.items()}
            self._index.forget(str(folder), set(known) - set(kept))
            self._index.remember(str(folder), kept)
        return named

    def _listed(self, *, is_whole: bool = True) -> Listing:
        series = sorted(
            (seen for seen, _ in self._seen.values() if seen is not None),
            key=lambda found: (found.series.patient_id, found.series.study_uid, found.series.uid),
        )
        skipped = tuple(file for _, files in self._seen.values() for file in files)
        report = ScanReport(self._cache.folder, studies_of(series), tuple(series), skipped)
        return listing_of(report, is_whole=is_whole)


class DicomwebDatastore(StudiesDatastore):
    """The datastore of ``--studies https://.../dicom-web``."""

    def __init__(
        self,
        pacs: Pacs,
        studies: PacsStudies,
        writable: Path,
        *,
        split: Split = Split(),
        budget: MemoryBudget | None = None,
    ) -> None:
        super().__init__(studies, writable, split=split, budget=budget)
        self._pacs = pacs
        self._pacs_studies = studies

    def store_series(self, series: SyntheticSeries) -> None:
        """Store a synthetic PET series in the PACS; the same one again changes nothing there.

        Raises:
            RemoteError: The PACS cannot be asked, or refuses an instance. What it took stays there.
        """
        self._pacs.store(series.datasets())

    def keep_files(self, files: Mapping[str, Sequence[Path]]) -> None:
        """Store the files of series in the PACS; those that are there already stay as they are.

        Raises:
            RemoteError: The PACS cannot be asked, or refuses an instance. What it took stays there.
        """
        for paths in files.values():
            self._pacs.store_files(paths)

    def close(self) -> None:
        """Look for new studies no more."""
        super().close()
        self._pacs_studies.close()


def dicomweb_datastore(url: str, settings: AppSettings, *, budget: MemoryBudget | None = None) -> DicomwebDatastore:
    """Return the datastore of a PACS, under MONAI Label's own settings (``MONAI_LABEL_...``). Asks nothing yet.

    Raises:
        InputError: No address of a DICOMweb service, or half of a user name and password.
    """
    stock = monailabel_settings
    credentials = Credentials(
        username=stock.MONAI_LABEL_DATASTORE_USERNAME or stock.MONAI_LABEL_DICOMWEB_USERNAME,
        password=stock.MONAI_LABEL_DATASTORE_PASSWORD or stock.MONAI_LABEL_DICOMWEB_PASSWORD,
        token=stock.MONAI_LABEL_DATASTORE_API_KEY,
    )
    prefixes = Prefixes(stock.MONAI_LABEL_QIDO_PREFIX, stock.MONAI_LABEL_WADO_PREFIX, stock.MONAI_LABEL_STOW_PREFIX)
    pacs = Pacs(url, credentials, prefixes)
    if credentials != Credentials() and pacs.url.startswith("http://"):
        logger.warning("%s: the password or token travels unencrypted; use https:// where the PACS can", pacs.url)
    chosen = stock.MONAI_LABEL_DATASTORE_CACHE_PATH or stock.MONAI_LABEL_DICOMWEB_CACHE_PATH
    folder = Path(chosen) if chosen else settings.models_folder / "pacs"
    cache = SeriesCache(folder / "series", pacs, limit_bytes=settings.cache_bytes)
    filters = {key: str(word) for key, word in stock.MONAI_LABEL_DICOMWEB_SEARCH_FILTER.items() if key != "Modality"}
    studies = PacsStudies(pacs, cache, index=folder / "index.sqlite", filters=filters)
    return DicomwebDatastore(pacs, studies, settings.models_folder, split=settings.split, budget=budget)


def _judged(contents: Mapping[str, Content]) -> Seen:
    whole = [header for content in contents.values() if not isinstance(content, str) for header in content]
    skipped = tuple(SkippedFile(Path(name), why) for name, why in contents.items() if isinstance(why, str))
    return (judge_series(whole) if whole else None), skipped
