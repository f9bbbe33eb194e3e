"""Arbitrary values in lists and metadata of a PACS affect at most their own series."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from ct2pet_app.datastore.pacs_studies import PacsStudies
from lib.dicom.read.header import HEADER_TAGS
from lib.dicom.remote.cache import SeriesCache
from lib.dicom.remote.json_items import json_items
from lib.dicom.remote.metadata import RemoteSeries, headers_of_items
from lib.dicom.remote.pacs import Pacs
from lib.dicom.scan.series import judge_series
from lib.errors import CT2PETError, RemoteError
from lib.phantom.generate import write_phantoms
from tests.ct2pet_app.tiny_studies import TINY
from tests.server.malicious_pacs import Kind, MaliciousPacs, malicious_pacs
from tests.server.pacs_misbehaviour import responds, responds_json

LONE_SURROGATE = "\ud800"
VALUES: dict[str, Any] = {
    "a lone surrogate": [LONE_SURROGATE],
    "NUL and controls": ["\x00\x1b[31m\r\n"],
    "not a number": [float("nan")],
    "infinite": [float("inf"), float("-inf"), 1e308],
    "a huge number": [10**4000],
    "a huge number as text": ["9" * 5000],
    "a negative number": [-1],
    "a path": ["../../../etc/passwd"],
    "true": [True],
    "nothing": [],
    "null": [None],
    "a number for the list": 7,
    "a text for the list": "1.2.3",
    "a dataset for the list": {"00080018": {"vr": "UI", "Value": ["1.2"]}},
    "lists in the list": [[["1.2"]]],
    "datasets in the list": [{"00080018": {"vr": "UI", "Value": ["1.2"]}}],
    "invalid datasets": [{"x": 1}, {"00080018": 1}, 3],
    "many values": ["1"] * 1000,
    "a long text": ["x" * 100_000],
    "100 levels": json.loads("[" * 100 + "1" + "]" * 100),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One patient, with a CT and a PET."""
    return write_phantoms(tmp_path_factory.mktemp("studies"), patients=1, settings=TINY)[0]


@pytest.fixture(scope="module")
def metadata(folder: Path) -> list[dict[str, Any]]:
    """Valid metadata of the CT."""
    files = sorted((folder / "CT").glob("*.dcm"))[:3]
    return [dcmread(file, stop_before_pixels=True).to_json_dict() for file in files]


@pytest.fixture
def pacs(folder: Path) -> Iterator[MaliciousPacs]:
    with malicious_pacs(folder) as running:
        yield running


def studies_of(pacs: MaliciousPacs, tmp_path: Path) -> PacsStudies:
    client = Pacs(pacs.url)
    cache = SeriesCache(tmp_path / "series", client, limit_bytes=10**9)
    return PacsStudies(client, cache, index=tmp_path / "index.sqlite", filters={})


def judged(instances: list[Any], uid: str) -> list[Any]:
    """Return the headers of a series with the given metadata, after its assessment."""
    series = RemoteSeries(uid, "1.2", "CT", len(instances))
    found = list(headers_of_items(instances, series, Path("/cache")))
    assert len(found) == len(instances)
    headers = [header for one in found if isinstance(one, tuple) for header in one]
    with contextlib.suppress(CT2PETError):
        if headers:
            can_be_written(judge_series(headers).reason)
    for one in found:
        if isinstance(one, str):
            can_be_written(one)
    return headers


def uid_of(metadata: list[dict[str, Any]]) -> str:
    return str(metadata[0]["0020000E"]["Value"][0])


def test_valid_metadata_is_assessed(metadata: list[dict[str, Any]]) -> None:
    assert len(judged(metadata, uid_of(metadata))) == len(metadata)


def can_be_written(text: object) -> None:
    json.dumps(text, ensure_ascii=False).encode()


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_arbitrary_element_values_never_crash(metadata: list[dict[str, Any]], value: Any) -> None:
    for tag in sorted(HEADER_TAGS):
        name = f"{tag:08X}"
        vr = metadata[0].get(name, {"vr": "LO"})["vr"]
        changed = [{**instance, name: {"vr": vr, "Value": value}} for instance in metadata]
        assert len(judged(changed, uid_of(metadata))) <= len(metadata)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_the_other_series_stay_listed(pacs: MaliciousPacs, tmp_path: Path, value: Any) -> None:
    """One patient's CT has the value in every element but the UIDs."""

    def send(handler: Any) -> None:
        instances = handler.server.metadata(handler.parts[3])
        if instances[0]["00080060"]["Value"] == ["CT"]:
            uids = {"00080018", "0020000E", "0020000D", "00080016", "00080060"}
            instances = [
                {tag: one if tag in uids else {**one, "Value": value} for tag, one in instance.items()}
                for instance in instances
            ]
        handler.send(200, {"Content-Type": "application/dicom+json"}, json.dumps(instances).encode())

    pacs.behaviours[Kind.METADATA] = send
    listing = studies_of(pacs, tmp_path).rescan()
    assert any(found.series.modality == "PT" for found in listing.report.series)
    for found in listing.report.series:
        can_be_written([found.reason, found.series.description, found.series.patient_id])
    for skipped in listing.report.skipped:
        can_be_written(f"{skipped.path} {skipped.reason}")


ELEMENTS: dict[str, Any] = {
    "no element": 5,
    "null": None,
    "a list": [],
    "no VR": {"Value": ["1"]},
    "an invalid VR": {"vr": LONE_SURROGATE, "Value": ["1"]},
    "a VR that is not text": {"vr": {}, "Value": ["1"]},
    "bulk data elsewhere": {"vr": "UN", "BulkDataURI": "http://127.0.0.1:9/"},
    "invalid base64": {"vr": "OB", "InlineBinary": LONE_SURROGATE},
    "base64 of another type": {"vr": "SQ", "InlineBinary": "/////w=="},
    "a sequence of itself": {"vr": "SQ", "Value": [{"00081140": {"vr": "SQ", "Value": [{}]}}]},
}


@pytest.mark.parametrize("element", ELEMENTS.values(), ids=ELEMENTS)
def test_invalid_elements_never_crash(metadata: list[dict[str, Any]], element: Any) -> None:
    for tag in sorted(HEADER_TAGS):
        changed = [{**instance, f"{tag:08X}": element} for instance in metadata]
        assert len(judged(changed, uid_of(metadata))) <= len(metadata)


ROWS: dict[str, Any] = {
    "numbers": [1, 2, 3],
    "texts": ["1.2.3"],
    "nulls": [None],
    "lists": [[[]]],
    "a text alone": "1.2.3",
    "nothing": None,
    "a dataset alone": {},
    "invalid elements": [{"0020000D": 1, "0020000E": [], "00080060": "CT"}],
    "UIDs that are paths": [
        {
            "0020000D": {"vr": "UI", "Value": ["../../etc"]},
            "0020000E": {"vr": "UI", "Value": ["/etc/passwd"]},
            "00080060": {"vr": "CS", "Value": ["CT"]},
        }
    ],
    "UIDs of other digits": [
        {
            "0020000D": {"vr": "UI", "Value": ["\u0661.\u0662"]},
            "0020000E": {"vr": "UI", "Value": ["1.2\n"]},
            "00080060": {"vr": "CS", "Value": ["CT"]},
        }
    ],
}


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_invalid_rows_are_skipped(pacs: MaliciousPacs, rows: Any) -> None:
    pacs.behaviours[Kind.SEARCH] = responds_json(rows)
    assert Pacs(pacs.url).find_series("CT") == ()


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_arbitrary_row_values(pacs: MaliciousPacs, value: Any) -> None:
    """For any element, a row is a series or None."""
    for tag in ("0020000D", "0020000E", "00080060", "00201209"):
        rows = pacs.rows()
        for row in rows:
            row[tag] = {"vr": "UN", "Value": value}
        pacs.behaviours[Kind.SEARCH] = responds_json(rows)
        for series in Pacs(pacs.url).find_series("CT"):
            assert series.uid == "1.2.3" or series.uid in {row["0020000E"]["Value"][0] for row in pacs.rows()}
            assert 0 <= series.instances < 10**7


BODIES = {
    "deep": b"[" * 200_000,
    "deep in a row": b"[" + b'{"a":' * 200_000,
    "an integer without end": b"[1" + b"0" * 100_000 + b"]",
    "many values": b"[[" + b"1," * 2_000_000 + b"1]]",
    "one long text": b'["' + b"x" * 35_000_000 + b'"]',
    "cut off": b'[{"00080060": {"vr"',
    "a page": b"<html></html>",
    "no separator": b"[{} {}]",
    "an invalid literal": b"[nul]",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("kind", [Kind.SEARCH, Kind.METADATA])
def test_bodies_that_are_refused(pacs: MaliciousPacs, tmp_path: Path, kind: Kind, body: bytes) -> None:
    pacs.behaviours[kind] = responds(200, body, Content_Type="application/dicom+json")
    with pytest.raises(RemoteError, match=r"cannot be parsed|sends more than"):
        studies_of(pacs, tmp_path).rescan()


def test_repeated_page_ends_the_listing(pacs: MaliciousPacs) -> None:
    pacs.behaviours[Kind.SEARCH] = responds_json(pacs.rows())
    assert len(Pacs(pacs.url).find_series("CT")) == 1
    assert pacs.requests[Kind.SEARCH] == 2


def test_instances_of_another_series_are_skipped(pacs: MaliciousPacs, tmp_path: Path) -> None:
    ct = pacs.rows()[0]["0020000E"]["Value"][0]
    pacs.behaviours[Kind.METADATA] = responds_json(pacs.metadata(ct))
    listing = studies_of(pacs, tmp_path).rescan()
    assert {found.series.uid for found in listing.report.series} == {ct}
    assert all("but belongs to another" in skipped.reason for skipped in listing.report.skipped)


ARRAYS: dict[bytes, list[Any]] = {
    b"": [],
    b" \n ": [],
    b"[]": [],
    b"[ ]": [],
    b'[{"a": "\xc3\xa4\\u00e4"} , 12,3.5e1,null,"]",[1,[2]]]': [{"a": "\u00e4\u00e4"}, 12, 35.0, None, "]", [1, [2]]],
    b'\xef\xbb\xbf{"a": 1}': [{"a": 1}],
    b"[NaN, -Infinity, 1]": [None, None, 1],
    b'["\xff"]': ["\ufffd"],
}


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize(("body", "items"), ARRAYS.items())
def test_items_are_parsed_for_any_chunking(body: bytes, items: list[Any], size: int) -> None:
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    assert list(json_items(chunks)) == items
