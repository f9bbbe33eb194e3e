"""The organs of a phantom as NIfTI and as DICOM SEG: the truth, in valid files."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from lib.dicom.read.segmentation import read_references, read_segmentation
from lib.dicom.scan.scan import scan_folder
from lib.imaging.files.label_file import read_label_file
from lib.phantom.generate import PhantomSettings, phantom_patient, write_phantoms
from lib.phantom.organs import NIFTI_FILE, SEG_FILE, phantom_organs
from lib.phantom.tissues import Tissue

SETTINGS = PhantomSettings(slices=14, ct_matrix=51, ct_pixel_mm=8.0, pet_matrix=16)  # 2601 bits a frame of the SEG


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (folder,) = write_phantoms(tmp_path_factory.mktemp("phantoms"), patients=1, settings=SETTINGS, labels=True)
    return folder


def test_both_files_hold_the_truth(folder: Path) -> None:
    patient = phantom_patient(1, 0, SETTINGS)
    truth = phantom_organs(patient)
    np.testing.assert_array_equal(truth.organs.mask("lung"), patient.tissues_on(patient.ct.geometry) == Tissue.LUNG)
    for found in (read_label_file(folder / NIFTI_FILE), read_segmentation(folder / SEG_FILE)):
        assert found.organs.names == truth.organs.names and not found.note
        np.testing.assert_array_equal(found.organs.labels, truth.organs.labels)
        assert found.geometry.same_grid_as(truth.geometry)


def test_the_seg_refers_to_the_ct_in_its_study(folder: Path) -> None:
    seg = pydicom.dcmread(folder / SEG_FILE)
    cts = {ct.SOPInstanceUID: ct for ct in map(pydicom.dcmread, (folder / "CT").iterdir())}
    references = read_references(folder / SEG_FILE)
    one = next(iter(cts.values()))
    assert references is not None and references.series_uids == {one.SeriesInstanceUID}
    assert references.frame_of_reference_uid == one.FrameOfReferenceUID
    assert seg.StudyInstanceUID == one.StudyInstanceUID and "NOT A PATIENT" in seg.ContentDescription
    for groups in seg.PerFrameFunctionalGroupsSequence:
        source = cts[groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID]
        position = groups.PlanePositionSequence[0].ImagePositionPatient
        assert list(position) == list(source.ImagePositionPatient)


def test_a_scan_still_finds_the_pair(folder: Path) -> None:
    reasons = {found.series.modality: found.reason for found in scan_folder(folder).series}
    assert reasons["CT"] is None and reasons["PT"] is None and "not a CT or PET" in str(reasons["SEG"])


def test_equal_phantoms_have_equal_label_maps(folder: Path, tmp_path: Path) -> None:
    (again,) = write_phantoms(tmp_path, patients=1, settings=SETTINGS, labels=True)
    for name in (NIFTI_FILE, SEG_FILE):
        digests = {hashlib.sha256((of / name).read_bytes()).hexdigest() for of in (folder, again)}
        assert len(digests) == 1, name


def test_dciodvfy_finds_no_error(folder: Path, require_program: Callable[[str], str]) -> None:
    command = [require_program("dciodvfy"), str(folder / SEG_FILE)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    report = found.stdout + found.stderr
    assert "Segmentation" in report and "Error" not in report and "Warning" not in report, report
