"""Values omitted as bulk data are fetched with an instance from the PACS alone, or reported as undelivered."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from lib.dicom.instance_header import InstanceHeader
from lib.dicom.read.header import read_header
from lib.dicom.remote.budget import InvalidResponseError
from lib.dicom.remote.json_header import header_from_json
from lib.dicom.remote.metadata import RemoteSeries
from lib.dicom.remote.pacs import Pacs
from lib.dicom.remote.session import HttpStatusError
from lib.dicom.scan.series import judge_series
from lib.errors import CT2PETError, DicomError, RemoteError
from tests.dicom.builders import PET, STUDY, instance
from tests.server.orthanc import running_orthanc

FACTOR, ACTIVITY = "70531000", "70531009"
ELSEWHERE = "http://evil.example/bulk/1"
SERIES = RemoteSeries(PET, STUDY, "PT", 5)


def philips(k: int, *, factor: str = "0.0004") -> Any:
    dataset = instance(k, modality="PT", Units="CNTS")
    block = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
    block.add_new(0x00, "DS", factor)
    block.add_new(0x09, "DS", "2.5")
    return dataset


def metadata_of(dataset: Dataset, *omitted: str) -> dict[str, Any]:
    """Return metadata in which these elements have a BulkDataURI instead of a value."""
    metadata = dataset.to_json_dict(bulk_data_threshold=10**9)
    del metadata["7FE00010"]
    for tag in omitted:
        metadata[tag] = {"vr": "UN", "BulkDataURI": ELSEWHERE}
    return metadata


class Archive(Pacs):
    """A PACS that serves metadata over HTTP, counts fetched instances, and fails on request."""

    def __init__(self, url: str, datasets: list[Any], failure: CT2PETError | None = None) -> None:
        super().__init__(url)
        self._datasets = {dataset.SOPInstanceUID: dataset for dataset in datasets}
        self._failure = failure
        self.fetched: list[str] = []

    def fetch(self, study_uid: str, series_uid: str, sop_uid: str, path: Path, **limits: Any) -> None:
        self.fetched.append(sop_uid)
        if self._failure is not None:
            raise self._failure
        self._datasets[sop_uid].save_as(path, write_like_original=False)


@pytest.fixture
def archive_of() -> Iterator[Callable[..., Archive]]:
    """Return a function that starts an archive of datasets whose metadata omits some elements."""
    running: list[HTTPServer] = []

    def start(
        datasets: list[Any],
        *omitted: str,
        failure: CT2PETError | None = None,
        describe: Callable[..., dict[str, Any]] = metadata_of,
    ) -> Archive:
        body = json.dumps([describe(dataset, *omitted) for dataset in datasets]).encode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/dicom+json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        running.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return Archive(f"http://127.0.0.1:{server.server_address[1]}/dicom-web", datasets, failure)

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def headers_of(archive: Pacs) -> list[InstanceHeader]:
    found = list(archive.read_headers(SERIES, Path("/cache")))
    assert all(not isinstance(headers, str) for headers in found)
    return [header for headers in found if not isinstance(headers, str) for header in headers]


def factors_of(headers: list[InstanceHeader]) -> list[float | None]:
    return [header.shared.pet.philips_suv_factor if header.shared.pet else None for header in headers]


def test_two_instances_represent_the_series(archive_of: Callable[..., Archive]) -> None:
    archive = archive_of([philips(k) for k in range(5)], FACTOR, ACTIVITY)
    headers = headers_of(archive)
    assert factors_of(headers) == [0.0004] * 5
    assert archive.fetched == [f"{PET}.1", f"{PET}.5"]
    assert judge_series(headers).suv == "CNTS -> SUVbw (Philips factor)"


def test_nothing_is_fetched_if_metadata_is_complete(archive_of: Callable[..., Archive]) -> None:
    archive = archive_of([philips(k) for k in range(5)])
    assert factors_of(headers_of(archive)) == [0.0004] * 5
    assert archive.fetched == []


def test_differing_instances_are_all_fetched(archive_of: Callable[..., Archive]) -> None:
    factors = ["0.0004", "0.0004", "0.0005", "0.0004", "0.0006"]
    archive = archive_of([philips(k, factor=factor) for k, factor in enumerate(factors)], FACTOR)
    assert factors_of(headers_of(archive)) == [float(factor) for factor in factors]


@pytest.mark.parametrize(
    "failure",
    [DicomError("gone"), HttpStatusError("answers 500", status=500), InvalidResponseError("cannot be parsed")],
    ids=lambda error: type(error).__name__,
)
def test_values_that_cannot_be_fetched_are_undelivered(
    archive_of: Callable[..., Archive], failure: CT2PETError
) -> None:
    headers = headers_of(archive_of([philips(k) for k in range(5)], FACTOR, "00101030", failure=failure))
    pet = headers[0].shared.pet
    assert pet is not None and (pet.philips_suv_factor, pet.weight_kg) == (None, None)
    assert pet.undelivered == ("PatientWeight", "(7053,xx00)")
    assert pet.absence_reason("PatientWeight") == (
        "PatientWeight is not in the metadata of the PACS, which provides it only as bulk data"
    )


def test_unreachable_pacs_is_an_error(archive_of: Callable[..., Archive]) -> None:
    archive = archive_of([philips(0)], FACTOR, failure=RemoteError("cannot be reached"))
    with pytest.raises(RemoteError, match="cannot be reached"):
        headers_of(archive)


def without_private(dataset: Dataset, *omitted: str) -> dict[str, Any]:
    return {tag: element for tag, element in metadata_of(dataset, *omitted).items() if not tag.startswith("7053")}


def test_omitted_factors_are_fetched(archive_of: Callable[..., Archive]) -> None:
    archive = archive_of([philips(k) for k in range(5)], describe=without_private)
    assert factors_of(headers_of(archive)) == [0.0004] * 5
    assert archive.fetched == [f"{PET}.1", f"{PET}.5"]


def test_omitted_factors_that_cannot_be_fetched_are_undelivered() -> None:
    pet = header_from_json(without_private(philips(0)), "0.dcm").shared.pet
    assert pet is not None and pet.undelivered == ("(7053,xx00)", "(7053,xx09)")


def test_factors_that_the_instance_lacks_are_missing() -> None:
    dataset = instance(0, modality="PT", Units="CNTS")
    pet = header_from_json(metadata_of(dataset), "0.dcm", full=dataset).shared.pet
    assert pet is not None and (pet.undelivered, pet.philips_suv_factor) == ((), None)


def test_elements_of_the_injection_are_fetched_too(archive_of: Callable[..., Archive]) -> None:
    dataset = instance(0, modality="PT")
    metadata = metadata_of(dataset)
    item = metadata["00540016"]["Value"][0]
    item["00181074"] = {"vr": "UN", "BulkDataURI": ELSEWHERE}
    lacking = header_from_json(metadata, "0.dcm").shared.pet
    assert lacking is not None and lacking.undelivered == ("RadionuclideTotalDose",)
    filled = header_from_json(metadata, "0.dcm", full=dataset).shared.pet
    assert filled is not None and (filled.dose_bq, filled.undelivered) == (4e8, ())


def test_an_undelivered_sequence_leaves_all_of_the_injection_undelivered() -> None:
    pet = header_from_json(metadata_of(instance(0, modality="PT"), "00540016"), "0.dcm").shared.pet
    assert pet is not None and "RadionuclideTotalDose" in pet.undelivered


def test_undelivered_geometry_is_named() -> None:
    header = header_from_json(metadata_of(instance(0), "00280030", "00281052"), "0.dcm")
    assert header.shared.undelivered == ("RescaleIntercept", "PixelSpacing")


def inline(content: bytes) -> dict[str, str]:
    return {"vr": "UN", "InlineBinary": base64.b64encode(content).decode()}


def test_inline_values_of_unknown_type_are_decoded(tmp_path: Path) -> None:
    metadata = metadata_of(philips(0))
    metadata |= {
        FACTOR: inline(b"0.0004"), "00101030": inline(b"88.7"), "00280010": inline(b"\x06\x00"),
        "00200032": inline(b"1\\2\\3 "), "00281053": inline(b"2,5 "),
    }  # fmt: skip
    header = header_from_json(metadata, "0.dcm")
    pet = header.shared.pet
    assert pet is not None and (pet.philips_suv_factor, pet.weight_kg) == (0.0004, 88.7)
    assert (header.shared.rows, header.position_mm) == (6, (1.0, 2.0, 3.0))
    assert header.shared.notes == ("RescaleSlope contains a decimal comma and is read accordingly",)


def test_an_inline_sequence_of_unknown_type_is_decoded() -> None:
    dose = b"\x18\x00\x74\x10\x04\x00\x00\x004e8 "  # (0018,1074) in implicit VR: 4 bytes
    item = b"\xfe\xff\x00\xe0" + len(dose).to_bytes(4, "little") + dose
    metadata = metadata_of(instance(0, modality="PT")) | {"00540016": inline(item)}
    pet = header_from_json(metadata, "0.dcm").shared.pet
    assert pet is not None and pet.dose_bq == 4e8


def test_malformed_private_number_is_reported_as_in_a_file() -> None:
    metadata = metadata_of(philips(0)) | {FACTOR: {"vr": "DS", "Value": ["1,000"]}}
    pet = header_from_json(metadata, "0.dcm").shared.pet
    assert pet is not None and pet.malformed == (("(7053,xx00)", "1,000"),)


def test_invalid_base64_is_a_dicom_error() -> None:
    metadata = metadata_of(philips(0)) | {FACTOR: {"vr": "UN", "InlineBinary": "***"}}
    with pytest.raises(DicomError, match="not valid DICOM JSON"):
        header_from_json(metadata, "0.dcm")


def test_orthanc_metadata_of_implicit_vr_equals_the_files(
    require_program: Callable[[str], str], tmp_path: Path
) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for k in range(3):
        dataset = philips(k)
        dataset.is_implicit_VR = True
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        dataset.save_as(files / f"{dataset.SOPInstanceUID}.dcm", write_like_original=False)
    with running_orthanc(require_program("Orthanc"), tmp_path / "orthanc", files) as orthanc:
        headers = headers_of(orthanc.pacs())
    pets = {header.sop_instance_uid: header.shared.pet for header in headers}
    assert pets == {dcmread(path).SOPInstanceUID: read_header(path).shared.pet for path in sorted(files.iterdir())}
    assert factors_of(headers) == [0.0004] * 3
