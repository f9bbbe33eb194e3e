"""Request and response of STOW-RS (PS3.18 10.5): an instance counts as stored if the response lists it.

Error pages of proxies may have status 200, and a PACS may store some instances and not mention the others.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from pydicom import dcmwrite
from pydicom.dataset import Dataset

from lib.dicom.read.instance_file import read_instance_file
from lib.dicom.remote.json_items import json_items
from lib.dicom.remote.multipart import DICOM, RELATED
from lib.dicom.remote.session import ResponseBody
from lib.errors import DicomError, RemoteError

ACCEPTED = "application/dicom+json, application/json;q=0.8, application/dicom+xml;q=0.5"
REFERENCED, FAILED, OTHER_FAILURES, SOP_UID, FAILURE_REASON = "00081199", "00081198", "0008119A", "00081155", "00081197"
MAX_REQUEST_BYTES = 32 * 10**6  # of pixels per request; web servers limit the size of requests
MAX_CONTENT_TYPE = 80  # characters in a message


def read_instance(path: Path) -> Dataset:
    """Return the dataset of a DICOM file.

    Raises:
        DicomError: The file is damaged.
    """
    try:
        return read_instance_file(path, with_pixels=True)
    except Exception as error:  # a damaged file can make a parser raise anything
        raise DicomError(f"{path.name}: damaged DICOM file ({error}); send it again") from error


def batches_of(instances: Iterable[Dataset]) -> Iterator[list[Dataset]]:
    """Yield batches of instances for one request each."""
    batch: list[Dataset] = []
    size = 0
    for instance in instances:
        batch.append(instance)
        size += len(instance.get("PixelData", b""))
        if size >= MAX_REQUEST_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


@dataclass(frozen=True)
class StoreResponse:
    """The response of a PACS to a store request.

    Attributes:
        stored: SOPInstanceUIDs of stored instances, including those with a WarningReason.
        failed: SOPInstanceUID and FailureReason of refused instances; "?" for a missing value.
        problem: Why the response is not a STOW-RS response; empty if it is one.
    """

    stored: frozenset[str]
    failed: tuple[tuple[str, str], ...]
    problem: str = ""


@dataclass(frozen=True)
class StoreRequest:
    """The body of a store request, with the SOPInstanceUIDs of its instances."""

    uids: tuple[str, ...]
    body: bytes
    content_type: str


def store_request(instances: Iterable[Dataset]) -> StoreRequest:
    """Return the request that stores instances in their own encoding."""
    boundary = uuid.uuid4().hex
    uids, body = [], io.BytesIO()
    for instance in instances:
        uids.append(str(instance.SOPInstanceUID))
        encoded = io.BytesIO()
        dcmwrite(encoded, instance)
        body.write(f"\r\n--{boundary}\r\nContent-Type: {DICOM}\r\n\r\n".encode())
        body.write(encoded.getbuffer())
    body.write(f"\r\n--{boundary}--\r\n".encode())
    return StoreRequest(tuple(uids), body.getvalue(), f'{RELATED}; type="{DICOM}"; boundary="{boundary}"')


def store_response(body: ResponseBody) -> StoreResponse:
    """Return the parsed response; a budget limits its size."""
    content = b"".join(body.chunks())
    kind = body.content_type.partition(";")[0].strip().lower()
    if not content.strip():
        return _invalid_response("it is empty")
    try:
        if kind.endswith("json"):
            return _from_json(content)
        if kind.endswith("xml"):
            return _from_xml(content)
    except Exception as error:  # a damaged response can contain anything
        return _invalid_response(f"it cannot be parsed ({type(error).__name__})")
    return _invalid_response(
        f"it is {kind[:MAX_CONTENT_TYPE] or 'of no Content-Type'!r}, expected application/dicom+json"
    )


def refuse_unconfirmed(request: StoreRequest, response: StoreResponse, url: str) -> None:
    """Raise unless every instance of a request is stored.

    Raises:
        RemoteError: The PACS refuses an instance or does not confirm that it is stored.
    """
    total = len(request.uids)
    if response.failed:
        uid, reason = response.failed[0]
        raise RemoteError(f"{url}: {len(response.failed)} of {total} instances refused, first {uid} (reason {reason})")
    unconfirmed = [uid for uid in request.uids if uid not in response.stored]
    if unconfirmed:
        why = f" ({response.problem})" if response.problem else ""
        raise RemoteError(
            f"{url}: {len(unconfirmed)} of {total} instances are not confirmed as stored, first {unconfirmed[0]}: the "
            f"answer does not name them{why}; look into the PACS, and at the address of its STOW-RS service"
        )


def _invalid_response(problem: str) -> StoreResponse:
    return StoreResponse(frozenset(), (), problem)


def _from_json(content: bytes) -> StoreResponse:
    stored, failed = [], []
    for dataset in json_items([content]):
        for tag in (REFERENCED, FAILED, OTHER_FAILURES):
            for item in (dataset.get(tag) or {}).get("Value") or ():
                uid = _first(item, SOP_UID)
                if tag == REFERENCED:
                    stored.append(uid)
                else:
                    failed.append((uid, _first(item, FAILURE_REASON)))
    return StoreResponse(frozenset(stored), tuple(failed))


def _first(item: dict[str, Any], tag: str) -> str:
    values = (item.get(tag) or {}).get("Value") or ["?"]
    return _printable(values[0])


def _from_xml(content: bytes) -> StoreResponse:
    """Return the response in the Native DICOM Model (PS3.19 A.1); expat limits the expansion of entities."""
    stored, failed = [], []
    for sequence in ElementTree.fromstring(content):
        for item in _named(sequence, "Item"):
            uid, reason = (_value(item, tag) for tag in (SOP_UID, FAILURE_REASON))
            if sequence.get("tag", "").upper() == REFERENCED:
                stored.append(uid)
            elif sequence.get("tag", "").upper() in (FAILED, OTHER_FAILURES):
                failed.append((uid, reason))
    return StoreResponse(frozenset(stored), tuple(failed))


def _named(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (child for child in element if child.tag.rpartition("}")[2] == name)


def _value(item: ElementTree.Element, tag: str) -> str:
    attributes: Sequence[ElementTree.Element] = [one for one in item if one.get("tag", "").upper() == tag]
    values = [value.text for attribute in attributes for value in _named(attribute, "Value")]
    return _printable(values[0] if values else "?")


def _printable(value: object) -> str:
    return str(value).encode("ascii", "backslashreplace").decode()[:64]
