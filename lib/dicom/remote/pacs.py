"""What a PACS is asked over DICOMweb: which series there are, their headers, one instance, storing instances.

Identifiers out of answers become parts of addresses and of file names: each is checked to be a UID first. Addresses
inside answers (RetrieveURL, BulkDataURI) are never asked. How much an answer may hold, and how long it may take, is
limited (`budget.py`).
"""

from __future__ import annotations

import contextlib
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
    MAX_SERIES,
    SOP_UID,
    UID,
    Headers,
    RemoteSeries,
    first_value,
    headers_of_instance,
    headers_of_items,
    series_rows,
)
from lib.dicom.remote.multipart import DICOM, RELATED, dicom_part
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

PAGE = 500  # series a question; a PACS may give fewer
MAX_PAGE_BYTES = 2**26  # a row has 1 or 2 kB, and a PACS may ignore the limit it was given
MIN_METADATA_BYTES, METADATA_BYTES_PER_INSTANCE, MAX_METADATA_BYTES = 2**25, 2**16, 2**29
MAX_INSTANCE_BYTES = 2**30  # 2,000 uncompressed frames of 512 x 512; on disk, 64 kB of it at a time in memory
MAX_STORE_RESPONSE_BYTES = 2**24
GONE = frozenset({404, 410})
CONFLICT = 409  # of STOW-RS: no instance was stored, and the body says why
ACCEPT_JSON = {"Accept": "application/dicom+json, application/json"}
ACCEPT_INSTANCE = {"Accept": f'{RELATED}; type="{DICOM}"; transfer-syntax=*'}


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
        """Return all series of a modality, in the order of their UIDs.

        Args:
            modality: CT or PT.
            filters: Further attributes to match, by keyword.
            deadline: By `time.monotonic()`, for all pages.
            cancelled: Whether nobody needs it any more.

        Raises:
            RemoteError: The PACS cannot be asked, its answer cannot be understood, or it has too many series.
        """
        found: dict[str, RemoteSeries] = {}
        asked = {**(filters or {}), "Modality": modality, "includefield": "NumberOfSeriesRelatedInstances"}
        rows = 0
        while True:  # until nothing new comes: how many a PACS gives at once is its own affair, some ignore the offset
            query = urlencode({**asked, "limit": PAGE, "offset": rows})
            page: list[RemoteSeries | None] = self._get(
                f"{self._qido}/series?{query}",
                series_rows,
                "its list of series",
                self._budget(MAX_PAGE_BYTES, deadline=deadline, cancelled=cancelled),
            )
            rows += len(page)
            new = {series.uid: series for series in page if series and series.uid not in found}
            found |= new
            if len(found) > MAX_SERIES:
                raise InvalidResponseError(
                    f"{self.url}: lists more than {MAX_SERIES} {modality} series; narrow the search by "
                    "MONAI_LABEL_DICOMWEB_SEARCH_FILTER"
                )
            if not new:
                return tuple(series for _, series in sorted(found.items()) if series.modality == modality)

    def read_headers(
        self,
        series: RemoteSeries,
        folder: Path,
        *,
        deadline: float = math.inf,
        cancelled: Callable[[], bool] = never_cancelled,
    ) -> Iterator[Headers | str]:
        """Yield the headers of each instance's slices, or the reason why it has none; paths are `folder`/<UID>.dcm.

        Args:
            series: Whose.
            folder: Where its files will lie.
            deadline: By `time.monotonic()`, for all that is fetched.
            cancelled: Whether nobody needs it any more.

        Raises:
            DicomError: The series is no longer in the PACS.
            RemoteError: The PACS cannot be asked, or its answer cannot be understood.
        """
        what = f"series {series.uid}"
        size = min(MIN_METADATA_BYTES + METADATA_BYTES_PER_INSTANCE * series.instances, MAX_METADATA_BYTES)
        with _may_be_gone(what):
            found: list[Headers | str | Mapping[str, Any]] = self._get(
                f"{URI(self._wado, series.study_uid, series.uid)}/metadata",
                lambda body: list(headers_of_items(json_items(body.chunks()), series, folder)),
                what,
                self._budget(size, deadline=deadline, cancelled=cancelled),
            )
        incomplete = [one for one in found if isinstance(one, Mapping)]
        wholes = iter(full_instances(incomplete, partial(self._whole_or_none, series, deadline, cancelled), what=what))
        for one in found:
            yield headers_of_instance(one, series, folder, next(wholes)) if isinstance(one, Mapping) else one

    def _whole_or_none(
        self, series: RemoteSeries, deadline: float, cancelled: Callable[[], bool], instance: Mapping[str, Any]
    ) -> Dataset | None:
        """Return an instance without its pixels; None where the PACS refuses it, has it no longer, or sends none."""
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
        ) as error:  # unreachable: the series is asked for again later
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
    ) -> None:
        """Write one instance into a file, as it is stored, pixels not decoded. Whether it is one, the caller checks.

        Args:
            study_uid: Of its study.
            series_uid: Of its series.
            sop_uid: Its own.
            path: Where to; overwritten, and left behind half-written where an error is raised.
            cancelled: Whether nobody needs it any more.
            deadline: By `time.monotonic()`.

        Raises:
            DicomError: It is no longer in the PACS.
            FetchCancelledError: `cancelled` returned True.
            RemoteError: The PACS cannot be asked, breaks off, or sends too slowly or too much.
            OSError: The file cannot be written.
        """

        def write(body: ResponseBody) -> None:
            with path.open("wb") as file:
                for piece in dicom_part(body.chunks(), body.content_type):
                    file.write(piece)

        what = f"instance {sop_uid} of series {series_uid}"
        budget = self._budget(MAX_INSTANCE_BYTES, cancelled=cancelled, deadline=deadline)
        url = str(URI(self._wado, study_uid, series_uid, sop_uid))
        with _may_be_gone(what):
            self._get(url, write, what, budget, headers=ACCEPT_INSTANCE)

    def store(self, instances: Iterable[Dataset]) -> None:
        """Store instances, some at a time; those that are there already stay as they are.

        Raises:
            RemoteError: The PACS cannot be asked, refuses an instance, or does not confirm that it has stored it; what
                it took before stays there.
        """
        for batch in batches_of(instances):
            self._store(store_request(batch))

    def _store(self, request: StoreRequest) -> None:
        response = self._understood(
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
            "its answer to storing",
        )
        refuse_unconfirmed(request, response, self.url)

    def store_files(self, files: Iterable[Path]) -> None:
        """Store DICOM files as they are; see `store`.

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
        return self._understood(partial(self._session.exchange, "GET", url, consume, budget, headers=headers), what)

    def _understood(self, question: Callable[[], Result], what: str) -> Result:
        """Return an answer; what a broken one makes a parser raise becomes an AnswerError."""
        try:
            return question()
        except (CT2PETError, OSError):
            raise
        except Exception as error:  # JSON and multipart parsers raise all kinds of things
            words = str(error).encode("ascii", "backslashreplace").decode()[:200]
            raise InvalidResponseError(
                f"{self.url}: {what} cannot be understood ({type(error).__name__}: {words})"
            ) from error


@contextlib.contextmanager
def _may_be_gone(what: str) -> Iterator[None]:
    """Turn the PACS's answer that it does not have something into a DicomError: it was listed before."""
    try:
        yield
    except HttpStatusError as error:
        if error.status in GONE:
            raise DicomError(f"{what} is not in the PACS any more ({error.status})") from error
        raise
