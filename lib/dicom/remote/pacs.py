"""What a PACS is asked over DICOMweb: which series there are, their headers, one instance, storing instances.

Identifiers out of answers become parts of addresses and of file names: each is checked to be a UID first. Addresses
inside answers (RetrieveURL, BulkDataURI) are never asked.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dicomweb_client.web import DICOMwebClient
from pydicom import dcmread
from pydicom.dataset import Dataset

from lib.dicom.header import InstanceHeader
from lib.dicom.remote.bulk_data import whole_instances
from lib.dicom.remote.json_header import slice_headers_from_json
from lib.dicom.remote.session import Credentials, HttpStatusError, PacsSession, checked_url
from lib.errors import CT2PETError, DicomError, InputError, RemoteError

logger = logging.getLogger(__name__)

UID = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)*")
PAGE = 500  # series a question; a PACS may give fewer
STORED_AT_ONCE_BYTES = 32 * 10**6  # in one request; a PACS's web server has a limit of its own
WHOLE_BODY = 1 << 62  # bytes a chunk of a request: one with a length can be repeated, one in chunks cannot
SERIES_UID, STUDY_UID, MODALITY, INSTANCES, SOP_UID = "0020000E", "0020000D", "00080060", "00201209", "00080018"


class AnswerError(RemoteError):
    """An answer that cannot be understood."""


@dataclass(frozen=True)
class RemoteSeries:
    """A series as QIDO-RS tells of it; `instances` grows while it arrives, and is 0 where the PACS does not count."""

    uid: str
    study_uid: str
    modality: str
    instances: int


@dataclass(frozen=True)
class Prefixes:
    """What stands between the address and the resources of each service, where a PACS has several; else None."""

    qido: str | None = None
    wado: str | None = None
    stow: str | None = None


class Pacs:
    """A DICOMweb service. Nothing is asked before the first question; several threads may ask at once."""

    def __init__(self, url: str, credentials: Credentials = Credentials(), prefixes: Prefixes = Prefixes()) -> None:
        self.url = checked_url(url)
        logging.getLogger("dicomweb_client").setLevel(logging.WARNING)  # it tells of every instance
        try:
            self._client = DICOMwebClient(
                self.url,
                session=PacsSession(self.url, credentials),
                qido_url_prefix=prefixes.qido or None,
                wado_url_prefix=prefixes.wado or None,
                stow_url_prefix=prefixes.stow or None,
                chunk_size=WHOLE_BODY,
            )
        except ValueError as error:
            raise InputError(
                f"{self.url}: {error}; expected an address such as https://pacs.example/dicom-web"
            ) from error
        self._client.set_http_retry_params(retry=False)  # the session repeats, and knows when it helps

    def find_series(self, modality: str, filters: Mapping[str, str] | None = None) -> tuple[RemoteSeries, ...]:
        """Return all series of a modality, in the order of their UIDs.

        Args:
            modality: CT or PT.
            filters: Further attributes to match, by keyword.

        Raises:
            RemoteError: The PACS cannot be asked, or its answer cannot be understood.
        """
        found: dict[str, RemoteSeries] = {}
        asked = {**(filters or {}), "Modality": modality}
        rows = 0
        while (
            True
        ):  # until nothing new comes: how many a PACS gives at once is its own affair, and some ignore the offset
            page = self._ask(
                partial(
                    self._client.search_for_series,
                    search_filters=asked,
                    fields=["NumberOfSeriesRelatedInstances"],
                    limit=PAGE,
                    offset=rows,
                ),
                "its list of series",
            )
            rows += len(page)
            new = {series.uid: series for series in map(_series, page) if series and series.uid not in found}
            found |= new
            if not new:
                return tuple(series for _, series in sorted(found.items()) if series.modality == modality)

    def read_headers(self, series: RemoteSeries, folder: Path) -> Iterator[tuple[InstanceHeader, ...] | str]:
        """Yield the headers of each instance's slices, or the reason why it has none; paths are `folder`/<UID>.dcm.

        Raises:
            DicomError: The series is no longer in the PACS.
            RemoteError: The PACS cannot be asked, or its answer cannot be understood.
        """
        what = f"series {series.uid}"
        try:
            question = partial(self._client.retrieve_series_metadata, series.study_uid, series.uid)
            answer = self._ask(question, what)
        except HttpStatusError as error:
            _refuse_missing(error, what)
            raise
        wholes = whole_instances(answer, partial(self._whole_or_none, series), what=what)
        for instance, whole in zip(answer, wholes, strict=True):
            uid = _first(instance, SOP_UID)
            if not UID.fullmatch(uid):
                yield "an instance whose SOPInstanceUID is missing or no UID"
                continue
            try:
                headers = slice_headers_from_json(instance, str(folder / f"{uid}.dcm"), whole=whole)
            except DicomError as error:
                yield str(error)
                continue
            other = headers[0].shared.series_instance_uid != series.uid
            yield f"{uid}: sent as of series {series.uid}, and is of another" if other else headers

    def _whole_or_none(self, series: RemoteSeries, instance: Mapping[str, Any]) -> Dataset | None:
        """Return an instance; None where the PACS refuses it, no longer has it, or sends what is none."""
        uid = _first(instance, SOP_UID)
        if not UID.fullmatch(uid):
            return None
        try:
            return self.fetch(series.study_uid, series.uid, uid)
        except (DicomError, HttpStatusError, AnswerError) as error:  # unreachable: the series is asked for again later
            logger.warning("%s", error)
            return None

    def fetch(self, study_uid: str, series_uid: str, sop_uid: str) -> Dataset:
        """Return one instance as it is stored, pixels not decoded.

        Raises:
            DicomError: It is no longer in the PACS, or is sent as what it is not.
            RemoteError: The PACS cannot be asked, or breaks off.
        """
        what = f"instance {sop_uid} of series {series_uid}"
        try:
            return self._ask(partial(self._client.retrieve_instance, study_uid, series_uid, sop_uid), what)
        except HttpStatusError as error:
            _refuse_missing(error, what)
            raise

    def store(self, instances: Iterable[Dataset]) -> None:
        """Store instances, some at a time; those that are there already stay as they are.

        Raises:
            RemoteError: The PACS cannot be asked, or refuses an instance; what it took before stays there.
        """
        for batch in _batches(instances):
            told = self._ask(partial(self._client.store_instances, batch), "its answer to storing")
            failed = [
                f"{item.get('ReferencedSOPInstanceUID', '?')} (reason {item.get('FailureReason', '?')})"
                for item in told.get("FailedSOPSequence") or ()
            ]
            if failed:
                raise RemoteError(f"{self.url}: {len(failed)} of {len(batch)} instances refused, first {failed[0]}")

    def store_files(self, files: Iterable[Path]) -> None:
        """Store DICOM files as they are; see `store`.

        Raises:
            DicomError: A file is damaged.
        """
        self.store(map(_instance_in, files))

    def _ask(self, question: Callable[[], Any], what: str) -> Any:
        """Return an answer; what a broken one makes a parser raise becomes a RemoteError."""
        try:
            return question()
        except CT2PETError:
            raise
        except Exception as error:  # JSON, multipart and DICOM parsers raise all kinds of things
            raise AnswerError(f"{self.url}: {what} cannot be understood ({type(error).__name__}: {error})") from error


def _instance_in(path: Path) -> Dataset:
    try:
        return dcmread(path)
    except Exception as error:  # a damaged file can make a parser raise anything
        raise DicomError(f"{path.name}: damaged DICOM file ({error}); send it again") from error


def _refuse_missing(error: HttpStatusError, what: str) -> None:
    if error.status in (404, 410):
        raise DicomError(f"{what} is not in the PACS any more ({error.status})") from error


def _series(answer: Mapping[str, Any]) -> RemoteSeries | None:
    uid, study_uid = _first(answer, SERIES_UID), _first(answer, STUDY_UID)
    if not UID.fullmatch(uid) or not UID.fullmatch(study_uid):
        return None
    count = _first(answer, INSTANCES)
    return RemoteSeries(uid, study_uid, _first(answer, MODALITY), int(count) if count.isdecimal() else 0)


def _first(elements: Mapping[str, Any], tag: str) -> str:
    values = elements.get(tag, {}).get("Value") or [""]
    return str(values[0])


def _batches(instances: Iterable[Dataset]) -> Iterator[list[Dataset]]:
    batch: list[Dataset] = []
    size = 0
    for instance in instances:
        batch.append(instance)
        size += len(instance.get("PixelData", b""))
        if size >= STORED_AT_ONCE_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
