"""CTs of a PACS: the driver lists them, and each worker requests the headers and files of one study at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from lib.dicom.remote.cache import SeriesCache
from lib.dicom.remote.metadata import RemoteSeries
from lib.dicom.remote.pacs import Pacs
from lib.dicom.remote.session import Credentials
from lib.dicom.scan.attribute_filters import series_matches
from lib.dicom.scan.scan import ScannedSeries, ScanReport, studies_of
from lib.dicom.scan.series import judge_series
from lib.errors import DicomError, UnsupportedSeriesError
from lib.imaging.files.failed_files import cache_folder
from lib.pairing.pairs import pair_series
from lib.types import Series

CACHE_BYTES = 4 * 2**30  # on each machine; each series is read once, so the cache only has to hold those in use


@dataclass(frozen=True)
class PacsAddress:
    """The DICOMweb address of a PACS and its credentials, which are never shown or recorded."""

    url: str
    credentials: Credentials = Credentials()

    def connect(self) -> Pacs:
        """Return the client; it sends no request yet.

        Raises:
            InputError: An invalid address.
        """
        return Pacs(self.url, self.credentials)

    def cache(self, pacs: Pacs) -> SeriesCache:
        """Return this machine's cache of files of the PACS."""
        name = hashlib.sha256(pacs.url.encode()).hexdigest()[:16]
        return SeriesCache(cache_folder() / "cohort" / name, pacs, limit_bytes=CACHE_BYTES)


@dataclass(frozen=True, eq=False)
class FetchedStudy:
    """A CT whose files are on this machine, and the real PET that is paired with it."""

    ct: Series
    pet: Series | None


def list_cts(address: PacsAddress, filters: Mapping[str, str]) -> tuple[RemoteSeries, ...]:
    """Return the CT series of a PACS with these attributes, sorted by UID; one query for 500 series.

    Raises:
        RemoteError: The PACS cannot be reached, or lists too many series.
    """
    others = {keyword: value for keyword, value in filters.items() if keyword != "Modality"}
    return address.connect().find_series("CT", others)


@contextmanager
def fetched_study(
    address: PacsAddress, ct_uid: str, study_uid: str, filters: Mapping[str, str]
) -> Iterator[FetchedStudy]:
    """Yield a CT of a PACS and its real PET, with their files in the cache during the context.

    Raises:
        UnsupportedSeriesError: It is not a CT that can be used, or lacks an attribute of `filters`.
        DicomError: The series is no longer in the PACS, or damaged.
        RemoteError: The PACS cannot be reached.
    """
    pacs = address.connect()
    cache = address.cache(pacs)
    scan = _scan_study(pacs, cache, study_uid)
    found = scan.find(ct_uid)
    if found is None:
        raise DicomError(f"series {ct_uid}: is no longer in the PACS")
    if not found.is_usable:
        raise _unusable(ct_uid, found.reason or "")
    pairs = pair_series(scan).pairs
    pet = next((paired.pair.pet for paired in pairs if paired.pair.ct.uid == ct_uid), None)
    with cache.holding(found.series, *(() if pet is None else (pet,))):
        if not series_matches(found.series, filters):  # a PACS may ignore attributes that it does not index
            raise _unusable(ct_uid, "its header lacks an attribute of the filter")
        yield FetchedStudy(found.series, pet)


def _scan_study(pacs: Pacs, cache: SeriesCache, study_uid: str) -> ScanReport:
    series = [
        _judged(pacs, cache, one)
        for modality in ("CT", "PT")
        for one in pacs.find_series(modality, {"StudyInstanceUID": study_uid})
        if one.study_uid == study_uid
    ]
    known = tuple(one for one in series if one is not None)
    return ScanReport(cache.folder, studies_of(known), known, ())


def _judged(pacs: Pacs, cache: SeriesCache, series: RemoteSeries) -> ScannedSeries | None:
    contents = pacs.read_headers(series, cache.folder_of(series.uid))
    headers = [header for content in contents if not isinstance(content, str) for header in content]
    return judge_series(headers) if headers else None


def _unusable(ct_uid: str, reason: str) -> UnsupportedSeriesError:
    return UnsupportedSeriesError(f"series {ct_uid}: {reason}", code="series_not_usable", series_instance_uid=ct_uid)
