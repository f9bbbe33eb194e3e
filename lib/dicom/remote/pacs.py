"""DICOMweb requests to a PACS: list series, read headers, fetch an instance, store instances.

Identifiers in responses become parts of URLs and file names, so each is validated as a UID first. URLs in responses
(RetrieveURL, BulkDataURI) are never requested. Size and duration of responses are limited (`budget.py`).
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from dicomweb_client.uri import URI
from pydicom.dataset import Dataset

from lib.dicom.remote.budget import InvalidResponseError, ResponseBudget
from lib.dicom.remote.bulk_data import full_instances, read_full_header
from lib.dicom.remote.json_items import json_items
from lib.dicom.remote.metadata import (
    MAX_INSTANCES,
    MAX_SERIES,
    SOP_UID,
    UID,
    Headers,
    RemoteSeries,
    first_value,
    headers_of_instance,
    headers_of_items,
    instance_rows,
    series_rows,
)
from lib.dicom.remote.multipart import ACCEPT_INSTANCE, dicom_part
from lib.dicom.remote.not_found import NOT_FOUND_STATUSES, removed_is_dicom_error
from lib.dicom.remote.paging import PAGE, collect_pages
from lib.dicom.remote.session import Credentials, HttpStatusError, PacsSession, ResponseBody, Result, checked_url
from lib.dicom.remote.store import (
    ACCEPTED,
    StoreRequest,
    batches_of,
    read_instance,
    refuse_unconfirmed,
    store_request,
    store_response,
)
from lib.errors import CT2PETError, DicomError, InputError
from lib.types import never_cancelled

logger = logging.getLogger(__name__)

MAX_PAGE_BYTES = 2**26  # a row has 1 or 2 kB, and a PACS may ignore the requested limit
MIN_METADATA_BYTES, METADATA_BYTES_PER_INSTANCE, MAX_METADATA_BYTES = 2**25, 2**16, 2**29
MAX_INSTANCE_BYTES = 2**30  # 2,000 uncompressed frames of 512 x 512; on disk, 64 kB of it at a time in memory
MAX_STORE_RESPONSE_BYTES = 2**24
CONFLICT = 409  # STOW-RS: no instance was stored; the body has the reasons
ACCEPT_JSON = {"Accept": "application/dicom+json, application/json"}


@dataclass(frozen=True)
class Prefixes:
    """Path prefixes of the services of a PACS, if they differ from its base URL; otherwise None."""

    qido: str | None = None
    wado: str | None = None
    stow: str | None = None


class Pacs:
    """A DICOMweb service. The constructor sends no request; methods are thread-safe."""

    def __init__(self, url: str, credentials: Credentials = Credentials(), prefixes: Prefixes = Prefixes()) -> None:
        self.url = checked_url(url)
        services = (prefixes.qido, prefixes.wado, prefixes.stow)
        self._qido, self._wado, self._stow = (
            f"{self.url}/{prefix.strip('/')}" if prefix else self.url for prefix in services
        )
        try:
            for service in (self._qido, self._wado, self._stow):
                URI(service)
        except ValueError as error:
            raise InputError(
                f"{self.url}: {error}; expected an address such as https://pacs.example/dicom-web"
            ) from error
        self._session = PacsSession(self.url, credentials)

    def find_series(
        self,
        modality: str,
        filters: Mapping[str, str] | None = None,
        *,
        deadline: float = math.inf,
        cancelled: Callable[[], bool] = never_cancelled,
    ) -> tuple[RemoteSeries, ...]:
        """Return all series of a modality, sorted by UID.

        Args:
            modality: CT or PT.
            filters: Further attributes to match, by keyword.
            deadline: Deadline for all pages, by `time.monotonic()`.
            cancelled: Returns whether the request has been cancelled.

        Raises:
            RemoteError: The PACS cannot be reached, its response cannot be parsed, or it has too many series.
        """
        parameters = {**(filters or {}), "Modality": modality, "includefield": "NumberOfSeriesRelatedInstances"}

        def page_at(offset: int) -> list[RemoteSeries | None]:
            """Return one page of the list."""
            query = urlencode({**parameters, "limit": PAGE, "offset": offset})
            budget = self._budget(MAX_PAGE_BYTES, deadline=deadline, cancelled=cancelled)
            return self._get(f"{self._qido}/series?{query}", series_rows, "its list of series", budget)

        found = collect_pages(page_at, lambda series: series.uid, limit=MAX_SERIES)
        if len(found) > MAX_SERIES:
            raise InvalidResponseError(
                f"{self.url}: lists more than {MAX_SERIES} {modality} series; narrow the search",
                code="too_many_series",
                limit=MAX_SERIES,
                modality=modality,
            )
        return tuple(series for _, series in sorted(found.items()) if series.modality == modality)

    def find_instances(self, study_uid: str, series_uid: str) -> frozenset[str]:
        """Return the SOPInstanceUIDs of a series in the PACS; empty if it does not have the series.

        Raises:
            RemoteError: The PACS cannot be reached, or its response cannot be parsed.
        """
        url = f"{URI(self._qido, study_uid, series_uid)}/instances"

        def page_at(offset: int) -> list[str]:
            """Return one page of the list; some PACS respond with 404 where they have nothing."""
            query = urlencode({"limit": PAGE, "offset": offset})
            try:
                return self._get(f"{url}?{query}", instance_rows, "its list", self._budget(MAX_PAGE_BYTES))
            except HttpStatusError as error:
                if error.status in NOT_FOUND_STATUSES:
                    return []
                raise

        return frozenset(collect_pages(page_at, str, limit=MAX_INSTANCES))

    def read_headers(
        self,
        series: RemoteSeries,
        folder: Path,
        *,
        deadline: float = math.inf,
        cancelled: Callable[[], bool] = never_cancelled,
    ) -> Iterator[Headers | str]:
        """Yield the headers of each instance's slices, or the reason why there are none; paths are `folder`/<UID>.dcm.

        Args:
            series: The series.
            folder: Folder of its files in the cache.
            deadline: Deadline for all requests, by `time.monotonic()`.
            cancelled: Returns whether the request has been cancelled.

        Raises:
            DicomError: The series is no longer in the PACS.
            RemoteError: The PACS cannot be reached, or its response cannot be parsed.
        """
        what = f"series {series.uid}"
        size = min(MIN_METADATA_BYTES + METADATA_BYTES_PER_INSTANCE * series.instances, MAX_METADATA_BYTES)
        with removed_is_dicom_error(what):
            found: list[Headers | str | Mapping[str, Any]] = self._get(
                f"{URI(self._wado, series.study_uid, series.uid)}/metadata",
                lambda body: list(headers_of_items(json_items(body.chunks()), series, folder)),
                what,
                self._budget(size, deadline=deadline, cancelled=cancelled),
            )
        incomplete = [one for one in found if isinstance(one, Mapping)]
        full = iter(full_instances(incomplete, partial(self._fetch_header, series, deadline, cancelled), what=what))
        for one in found:
            yield headers_of_instance(one, series, folder, next(full)) if isinstance(one, Mapping) else one

    def _fetch_header(
        self, series: RemoteSeries, deadline: float, cancelled: Callable[[], bool], instance: Mapping[str, Any]
    ) -> Dataset | None:
        """Return an instance without its pixels; None if the PACS refuses it or does not have it."""
        uid = first_value(instance, SOP_UID)
        if not UID.fullmatch(uid):
            return None
        try:
            with tempfile.NamedTemporaryFile(prefix="ct2pet-", suffix=".dcm") as file:
                path = Path(file.name)
                self.fetch(series.study_uid, series.uid, uid, path, deadline=deadline, cancelled=cancelled)
                return read_full_header(path)
        except (
            DicomError,
            HttpStatusError,
            InvalidResponseError,
        ) as error:  # if unreachable, the caller requests the series again later
            logger.warning("%s", error)
            return None

    def fetch(
        self,
        study_uid: str,
        series_uid: str,
        sop_uid: str,
        path: Path,
        *,
        cancelled: Callable[[], bool] = never_cancelled,
        deadline: float = math.inf,
        max_bytes: int | None = None,
    ) -> None:
        """Write one instance to a file, as stored, without decoding pixels. The caller validates the file.

        Args:
            study_uid, series_uid, sop_uid: UIDs of the instance.
            path: The file, which is overwritten, and is incomplete after an error.
            cancelled: Returns whether the request has been cancelled.
            deadline: Deadline by `time.monotonic()`.
            max_bytes: Largest size of the response; None for `MAX_INSTANCE_BYTES`.

        Raises:
            DicomError: The instance is no longer in the PACS.
            FetchCancelledError: `cancelled` returned True.
            RemoteError: The PACS cannot be reached, aborts, or exceeds the limits.
            OSError: The file cannot be written.
        """

        def write(body: ResponseBody) -> None:
            """Write the instance in a response body to the file."""
            with path.open("wb") as file:
                for piece in dicom_part(body.chunks(), body.content_type):
                    file.write(piece)

        what = f"instance {sop_uid} of series {series_uid}"
        budget = self._budget(max_bytes or MAX_INSTANCE_BYTES, cancelled=cancelled, deadline=deadline)
        url = str(URI(self._wado, study_uid, series_uid, sop_uid))
        with removed_is_dicom_error(what):
            self._get(url, write, what, budget, headers=ACCEPT_INSTANCE)

    def store(self, instances: Iterable[Dataset]) -> None:
        """Store instances in batches; existing instances are not changed.

        Raises:
            RemoteError: The PACS cannot be reached, refuses an instance, or does not confirm that it is stored.
                Instances stored before remain in the PACS.
        """
        for batch in batches_of(instances):
            self._store(store_request(batch))

    def _store(self, request: StoreRequest) -> None:
        response = self._parsed(
            partial(
                self._session.exchange,
                "POST",
                f"{self._stow}/studies",
                store_response,
                self._budget(MAX_STORE_RESPONSE_BYTES),
                headers={"Accept": ACCEPTED, "Content-Type": request.content_type},
                data=request.body,
                accept_status=CONFLICT,
            ),
            "its response to storing",
        )
        refuse_unconfirmed(request, response, self.url)

    def store_files(self, files: Iterable[Path]) -> None:
        """Store DICOM files unchanged; see `store`.

        Raises:
            DicomError: A file is damaged.
        """
        self.store(map(read_instance, files))

    def _budget(self, max_bytes: int, **limits: Any) -> ResponseBudget:
        return ResponseBudget(self.url, max_bytes=max_bytes, **limits)

    def _get(
        self,
        url: str,
        consume: Callable[[ResponseBody], Result],
        what: str,
        budget: ResponseBudget,
        *,
        headers: Mapping[str, str] = ACCEPT_JSON,
    ) -> Result:
        return self._parsed(partial(self._session.exchange, "GET", url, consume, budget, headers=headers), what)

    def _parsed(self, exchange: Callable[[], Result], what: str) -> Result:
        """Return the result of an exchange; convert errors of parsers to InvalidResponseError."""
        try:
            return exchange()
        except (CT2PETError, OSError):
            raise
        except Exception as error:  # JSON and multipart parsers raise all kinds of things
            message = str(error).encode("ascii", "backslashreplace").decode()[:200]
            raise InvalidResponseError(
                f"{self.url}: {what} cannot be parsed ({type(error).__name__}: {message})"
            ) from error
