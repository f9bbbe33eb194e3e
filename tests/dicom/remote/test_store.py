"""STOW-RS: an instance counts as stored only if the response lists it (PS3.18 10.5.3)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lib.dicom.remote.pacs import Pacs
from lib.errors import RemoteError
from tests.dicom.builders import instance
from tests.server.malicious_pacs import JSON, Kind, MaliciousPacs, malicious_pacs, stored
from tests.server.pacs_misbehaviour import responds, responds_json

INSTANCES = [instance(k) for k in range(3)]
UIDS = [str(one.SOPInstanceUID) for one in INSTANCES]


@pytest.fixture
def pacs() -> Iterator[MaliciousPacs]:
    with malicious_pacs() as running:
        yield running


def with_warning() -> dict[str, Any]:
    response = stored(*UIDS)
    for item in response["00081199"]["Value"]:
        item["00081196"] = {"vr": "US", "Value": [0xB000]}  # coercion of data elements
    return response


NAMESPACE = ' xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM"'


def xml(*uids: str, sequence: str = "00081199", namespace: str = NAMESPACE) -> bytes:
    """Return a response in the Native DICOM Model (PS3.19 A.1)."""
    items = "".join(
        f'<Item number="{number}"><DicomAttribute tag="00081155" vr="UI"><Value number="1">{uid}</Value>'
        '</DicomAttribute><DicomAttribute tag="00081197" vr="US"><Value number="1">272</Value></DicomAttribute></Item>'
        for number, uid in enumerate(uids, start=1)
    )
    attribute = f'<DicomAttribute tag="{sequence}" vr="SQ">{items}</DicomAttribute>'
    return f"<NativeDicomModel{namespace}>{attribute}</NativeDicomModel>".encode()


def body(response: object) -> bytes:
    return json.dumps(response).encode()


SUCCESSES = {
    "JSON": responds(200, body(stored(*UIDS)), Content_Type=JSON),
    "JSON in an array": responds(200, body([stored(*UIDS)]), Content_Type="application/json"),
    "JSON with a parameter": responds(200, body(stored(*UIDS)), Content_Type=f"{JSON}; charset=utf-8"),
    "with warnings": responds(202, body(with_warning()), Content_Type=JSON),
    "XML": responds(200, xml(*UIDS), Content_Type="application/dicom+xml"),
    "XML without a namespace": responds(200, xml(*UIDS, namespace=""), Content_Type="application/xml; charset=utf-8"),
}


@pytest.mark.parametrize("behaviour", SUCCESSES.values(), ids=SUCCESSES)
def test_confirmed_instances_are_stored(pacs: MaliciousPacs, behaviour: Any) -> None:
    pacs.behaviours[Kind.STORE] = behaviour
    Pacs(pacs.url).store(INSTANCES)  # raises RemoteError unless every instance is confirmed
    assert pacs.requests[Kind.STORE] > 0


def test_instances_are_stored_unchanged(pacs: MaliciousPacs) -> None:
    Pacs(pacs.url).store(INSTANCES)
    assert list(pacs.instances) == UIDS
    assert [header.SeriesInstanceUID for header in pacs.headers_of.values()] == [
        one.SeriesInstanceUID for one in INSTANCES
    ]


PAGE = b"<html><body>Please log in</body></html>"
NOT_CONFIRMED = {
    "a web page": (responds(200, PAGE, Content_Type="text/html"), "3 of 3 .*it is 'text/html', expected"),
    "a web page declared as JSON": (responds(200, PAGE, Content_Type=JSON), "3 of 3 .*cannot be parsed"),
    "a web page declared as XML": (responds(200, PAGE, Content_Type="application/dicom+xml"), "3 of 3"),
    "nothing": (responds(200), r"3 of 3 .*\(it is empty\)"),
    "accepted, empty body": (responds(202), "3 of 3"),
    "no content": (responds(204), "3 of 3"),
    "JSON of another shape": (responds_json({"status": "ok"}), "3 of 3"),
    "a number": (responds_json(1), "3 of 3"),
    "invalid sequences": (responds_json({"00081199": {"vr": "SQ", "Value": UIDS}}), "3 of 3"),
    "an empty list": (responds_json(stored()), "3 of 3"),
    "a part of them": (responds_json(stored(*UIDS[:2])), rf"1 of 3 instances are not confirmed .* first {UIDS[2]}"),
    "another instance": (responds_json(stored(*UIDS[:2], "1.2.3")), "1 of 3"),
    "a UID with a tail": (responds_json(stored(*UIDS[:2], f"{UIDS[2]}0")), "1 of 3"),
    "a lone surrogate": (responds_json(stored(*UIDS[:2], "\ud800")), "1 of 3"),
    "XML in part": (responds(200, xml(UIDS[0]), Content_Type="application/dicom+xml"), "2 of 3"),
    "XML bomb": (
        responds(
            200,
            b"<!DOCTYPE x [<!ENTITY a '" + b"x" * 1000 + b"'>"
            + b"".join(b"<!ENTITY %c '%s'>" % (98 + n, b"&%c;" % (97 + n) * 100) for n in range(6))
            + b"]><x>&g;</x>",
            Content_Type="application/dicom+xml",
        ),
        "3 of 3 .*cannot be parsed",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("behaviour", "message"), NOT_CONFIRMED.values(), ids=NOT_CONFIRMED)
def test_unconfirmed_instances_are_an_error(pacs: MaliciousPacs, behaviour: Any, message: str) -> None:
    pacs.behaviours[Kind.STORE] = behaviour
    with pytest.raises(RemoteError, match=message):
        Pacs(pacs.url).store(INSTANCES)


def refused(sequence: str) -> dict[str, Any]:
    item = {"00081155": {"vr": "UI", "Value": [UIDS[1]]}, "00081197": {"vr": "US", "Value": [272]}}
    return {**stored(UIDS[0], UIDS[2]), sequence: {"vr": "SQ", "Value": [item]}}


REFUSED = {
    "one of them": responds(202, body(refused("00081198")), Content_Type=JSON),
    "for another reason": responds(200, body(refused("0008119A")), Content_Type=JSON),
    "all of them": responds(409, body(refused("00081198")), Content_Type=JSON),
    "in XML": responds(409, xml(UIDS[1], sequence="00081198"), Content_Type="application/dicom+xml"),
}


@pytest.mark.parametrize("behaviour", REFUSED.values(), ids=REFUSED)
def test_refusal_is_reported_with_its_reason(pacs: MaliciousPacs, behaviour: Any) -> None:
    pacs.behaviours[Kind.STORE] = behaviour
    with pytest.raises(RemoteError, match=rf"1 of 3 instances refused, first {UIDS[1]} \(reason 272\)"):
        Pacs(pacs.url).store(INSTANCES)


def test_a_conflict_without_a_reason(pacs: MaliciousPacs) -> None:
    pacs.behaviours[Kind.STORE] = responds(409, PAGE, Content_Type="text/html")
    with pytest.raises(RemoteError, match="3 of 3 instances are not confirmed"):
        Pacs(pacs.url).store(INSTANCES)
