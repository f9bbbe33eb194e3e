"""Independent validators and readers of synthetic series of real CTs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread

from lib.dicom.scan.scan import scan_folder
from lib.dicom.write.files import write_series
from lib.dicom.write.pet_series import SyntheticSeries
from lib.dicom.write.plan import plan_series
from lib.imaging.resample import geometry_of
from lib.imaging.volume import Unit, Volume
from tests.dicom.write.synthetic_pets import MODEL, ct_in, dciodvfy_errors, pet_of, synthetic_of
from tests.server.orthanc import running_orthanc

STUDIES = ("sts/STS_001", "ct_only")


@pytest.fixture(scope="module", params=STUDIES)
def series(request: pytest.FixtureRequest, shared_data: Path) -> SyntheticSeries:
    """Synthetic PET of a real CT, computed from HU; the first slice is empty, as above a patient's head."""
    ct = scan_folder(shared_data / request.param).usable("CT")[0].series
    pet = pet_of(ct)
    pet.array[0] = 0
    return plan_series(ct, MODEL).fill(pet)


@pytest.fixture(scope="module")
def folder(series: SyntheticSeries, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_series(series, tmp_path_factory.mktemp("out") / "pet")


def test_dciodvfy_finds_only_expected_errors(folder: Path, require_program: Callable[[str], str]) -> None:
    program = require_program("dciodvfy")
    for path in sorted(folder.iterdir()):
        assert dciodvfy_errors(program, path) == [], path.name


def test_pets_of_36_real_cts_are_valid(sts_folder: Path, tmp_path: Path, require_program: Callable[[str], str]) -> None:
    program = require_program("dciodvfy")
    cts = scan_folder(sts_folder).usable("CT")
    assert len(cts) == 36
    for found in cts:
        planned = plan_series(found.series, MODEL)
        slab = planned.geometry.slab(slice(0, 1))
        pet = Volume(np.ones(slab.shape, np.float32), slab, Unit.SUV_BW)
        ((_, file),) = planned.fill(pet).files()
        path = tmp_path / "one.dcm"
        path.write_bytes(file)
        assert dciodvfy_errors(program, path) == [], found.series.uid


def test_dcmftest_accepts_every_instance(folder: Path, require_program: Callable[[str], str]) -> None:
    files = sorted(str(path) for path in folder.iterdir())
    process = subprocess.run([require_program("dcmftest"), *files], capture_output=True, text=True, check=False)
    assert process.returncode == 0
    assert process.stdout.splitlines() == [f"yes: {file}" for file in files]


def test_simpleitk_reads_it_on_the_cts_grid(folder: Path, series: SyntheticSeries) -> None:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    assert geometry_of(image).same_grid_as(series.pet.geometry)
    check_values(sitk.GetArrayFromImage(image), series)


def test_pydicom_reads_it_slice_by_slice(folder: Path, series: SyntheticSeries) -> None:
    read = [dcmread(path) for path in sorted(folder.iterdir())]
    values = [pet.pixel_array * float(pet.RescaleSlope) + float(pet.RescaleIntercept) for pet in read]
    check_values(np.array(values), series)
    ct = [dcmread(path, stop_before_pixels=True) for path in scan_ct(series)]
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "ImagePositionPatient"):
        assert [pet[keyword].value for pet in read] == [one[keyword].value for one in ct]


def test_orthanc_stores_it_once_and_returns_the_same_pixels(
    tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    attributes = {"BodyPartExamined": "CHEST", "PatientIdentityRemoved": "YES", "SpecificCharacterSet": "ISO_IR 13"}
    series = synthetic_of(ct_in(tmp_path / "ct", **attributes))
    with running_orthanc(require_program("Orthanc"), tmp_path / "orthanc") as orthanc:
        pacs = orthanc.pacs()
        for _ in range(2):
            pacs.store(series.datasets())
        (stored,) = pacs.find_series("PT")
        assert (stored.uid, stored.instances) == (series.uid, len(series))
        for sent in series.datasets():
            pacs.fetch(series.study_uid, series.uid, sent.SOPInstanceUID, tmp_path / "back.dcm")
            back = dcmread(tmp_path / "back.dcm")
            assert back.PixelData == sent.PixelData
            assert (back.RescaleSlope, back.DeidentificationMethod) == (sent.RescaleSlope, "not stated by the source")


def scan_ct(series: SyntheticSeries) -> list[Path]:
    """Return the files of the series' CT in stack order."""
    root = Path(str(series.planned.slices[0].filename))
    return list(scan_folder(root.parent).usable("CT")[0].series.files)


def check_values(values: np.ndarray, series: SyntheticSeries) -> None:
    for k, original in enumerate(series.pet.array):
        assert np.abs(values[k] - original).max() <= np.ptp(original) / 20_000, f"slice {k}"
