"""A client of a DICOM peer: stores instances (C-STORE SCU), and asks how many a series has (C-FIND SCU)."""

from __future__ import annotations

import contextlib
import io
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.presentation import PresentationContext

from lib.dicom.network.contexts import STUDY_ROOT_FIND, proposed_for_find, proposed_for_pet
from lib.errors import RemoteError

CONNECTION_TIMEOUT_S = 10.0
RESPONSE_TIMEOUT_S = 60.0  # an archive answers once the instance is on its disk
PENDING = (0xFF00, 0xFF01)
WARNINGS = range(0xB000, 0xC000)  # stored, with a remark (PS3.4 table B.2-1)
MAX_RESPONSES = 1000  # to one query


@dataclass(frozen=True)
class RemoteNode:
    """A DICOM peer.

    Attributes:
        name: In messages.
        aet: Its AE title.
        tls: A context of `client_context`; None without TLS.
    """

    name: str
    aet: str
    host: str
    port: int
    tls: ssl.SSLContext | None = None


class StoreConnection:
    """An association in which instances are stored."""

    def __init__(self, association: Any, remote: RemoteNode) -> None:
        self._association, self._remote = association, remote

    def store(self, file: bytes) -> None:
        """Store one instance; return once the peer has confirmed it.

        Args:
            file: A DICOM file of ours.

        Raises:
            RemoteError: The peer refuses it, does not answer, or has closed the connection.
        """
        dataset = dcmread(io.BytesIO(file))
        try:
            response = self._association.send_c_store(dataset)
        except (RuntimeError, ValueError) as error:  # closed; or no accepted context
            raise RemoteError(f"{self._remote.name}: {error}") from error
        status = _status_of(response, self._remote)
        if status != 0 and status not in WARNINGS:
            # without its ErrorComment, which may quote the header
            raise RemoteError(
                f"{self._remote.name}: refuses instance {dataset.SOPInstanceUID} with status 0x{status:04X}"
            )


@contextlib.contextmanager
def store_connection(remote: RemoteNode, aet: str) -> Iterator[StoreConnection]:
    """Yield an association in which synthetic PET can be stored; it ends with the context.

    Raises:
        RemoteError: The peer is unreachable or refuses the association or PET.
    """
    with _association(remote, aet, proposed_for_pet()) as association:
        yield StoreConnection(association, remote)


def count_instances(remote: RemoteNode, aet: str, *, study_uid: str, series_uid: str) -> int | None:
    """Return how many instances a peer has of a series; None if it does not know the series or the number.

    Raises:
        RemoteError: The peer is unreachable, or refuses the query.
    """
    query = Dataset()
    query.QueryRetrieveLevel = "SERIES"
    query.StudyInstanceUID, query.SeriesInstanceUID = study_uid, series_uid
    query.NumberOfSeriesRelatedInstances = ""
    with _association(remote, aet, proposed_for_find()) as association:
        count, responses = None, 0
        for response, identifier in association.send_c_find(query, STUDY_ROOT_FIND):
            status, responses = _status_of(response, remote), responses + 1
            if status not in (0, *PENDING) or responses > MAX_RESPONSES:
                raise RemoteError(f"{remote.name}: the query for series {series_uid} fails with status 0x{status:04X}")
            with contextlib.suppress(AttributeError, TypeError, ValueError):  # an invalid number is none
                if str(identifier.SeriesInstanceUID) == series_uid:
                    count = int(identifier.NumberOfSeriesRelatedInstances)
    return count


@contextlib.contextmanager
def _association(remote: RemoteNode, aet: str, contexts: Sequence[PresentationContext]) -> Iterator[Any]:
    entity = AE(ae_title=aet)
    entity.connection_timeout = entity.acse_timeout = CONNECTION_TIMEOUT_S
    entity.dimse_timeout = entity.network_timeout = RESPONSE_TIMEOUT_S
    tls = None if remote.tls is None else (remote.tls, remote.host)
    association = entity.associate(remote.host, remote.port, contexts=list(contexts), ae_title=remote.aet, tls_args=tls)
    if not association.is_established:
        where = f"{remote.name} ({remote.aet} at {remote.host} port {remote.port})"
        if association.is_rejected:
            raise RemoteError(f"{where}: rejects the association; it has to know the AE title {aet}")
        raise RemoteError(f"{where}: no association; it is switched off, unreachable, or its TLS settings differ")
    try:
        if not association.accepted_contexts:
            raise RemoteError(f"{remote.name}: accepts none of the proposed SOP classes")
        yield association
    finally:
        if association.is_established:
            association.release()


def _status_of(response: Dataset, remote: RemoteNode) -> int:
    """Return the status of a response; an empty one means that none arrived."""
    if "Status" not in response:
        raise RemoteError(f"{remote.name}: the connection was closed, or no response came in {RESPONSE_TIMEOUT_S:g} s")
    return int(response.Status)
