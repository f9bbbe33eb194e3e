"""Phantoms as DICOM: independent validation, independent SUV computation, and reproducible files."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest

from lib.errors import InputError
from lib.phantom.generate import PhantomSettings, phantom_patient, write_phantoms

SETTINGS = PhantomSettings(slices=24, ct_matrix=96, ct_pixel_mm=4.2)  # two beds of PET, small CT


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantoms")
    write_phantoms(out, patients=3, seed=5, settings=SETTINGS)
    return out


def read(series: Path) -> list[pydicom.FileDataset]:
    """Return the slices from the feet to the head."""
    slices = [pydicom.dcmread(path) for path in series.glob("*.dcm")]
    return sorted(slices, key=lambda x: x.ImagePositionPatient[2])


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def suv_bw_by_hand(pet: pydicom.FileDataset) -> np.ndarray:
    """Return SUVbw from the header alone: stored x slope x weight / dose decayed from injection to series time."""
    injected = pet.RadiopharmaceuticalInformationSequence[0]
    begun = datetime.strptime(pet.SeriesDate + pet.SeriesTime, "%Y%m%d%H%M%S")
    given = datetime.strptime(injected.RadiopharmaceuticalStartDateTime, "%Y%m%d%H%M%S")
    half_lives = (begun - given).total_seconds() / float(injected.RadionuclideHalfLife)
    dose_bq = float(injected.RadionuclideTotalDose) * 2**-half_lives
    return pet.pixel_array * float(pet.RescaleSlope) * float(pet.PatientWeight) * 1000 / dose_bq


def test_one_folder_per_patient_with_ct_and_pet(folder: Path) -> None:
    assert sorted(p.name for p in folder.iterdir()) == ["PHANTOM_0001", "PHANTOM_0002", "PHANTOM_0003"]
    for modality in ("CT", "PET"):
        names = sorted(p.name for p in (folder / "PHANTOM_0002" / modality).iterdir())
        assert names == [f"{n:04d}.dcm" for n in range(1, 25)]


def test_suv_from_the_header_equals_the_ground_truth(folder: Path) -> None:
    for number in (1, 2, 3):
        slices = read(folder / f"PHANTOM_{number:04d}" / "PET")
        truth = phantom_patient(number, 5, SETTINGS).pet.array
        suv_bw = np.stack([suv_bw_by_hand(pet) for pet in slices])
        steps = truth.max(axis=(1, 2), keepdims=True) / 32767
        assert np.abs((suv_bw - truth) / steps).max() < 0.51  # rounded to the nearest stored number


def test_each_pet_slice_has_its_own_slope(folder: Path) -> None:
    slopes = {float(pet.RescaleSlope) for pet in read(folder / "PHANTOM_0001" / "PET")}
    assert len(slopes) == 24


def test_hu_are_preserved_exactly(folder: Path) -> None:
    slices = read(folder / "PHANTOM_0001" / "CT")
    ct_hu = np.stack([ct.pixel_array * float(ct.RescaleSlope) + float(ct.RescaleIntercept) for ct in slices])
    np.testing.assert_array_equal(ct_hu, phantom_patient(1, 5, SETTINGS).ct.array)


def test_beds_decay_but_are_corrected_to_the_start_of_the_series(folder: Path) -> None:
    slices = read(folder / "PHANTOM_0001" / "PET")
    assert {pet.DecayCorrection for pet in slices} == {"START"}
    assert len({pet.SeriesTime for pet in slices}) == 1
    assert len({pet.AcquisitionTime for pet in slices}) == 2
    for pet in slices:
        half_life_s = float(pet.RadiopharmaceuticalInformationSequence[0].RadionuclideHalfLife)
        expected = 2 ** (float(pet.FrameReferenceTime) / 1000 / half_life_s)
        assert float(pet.DecayFactor) == pytest.approx(expected, rel=1e-6)
    # within a frame of 180 s the mean activity comes 0.28 s before its middle: T/2 - lambda T^2 / 24
    assert float(slices[-1].FrameReferenceTime) / 1000 == pytest.approx(90 - np.log(2) / 6586.2 * 180**2 / 24, abs=1e-3)


def test_ct_and_pet_share_patient_study_and_frame_of_reference(folder: Path) -> None:
    for patient in folder.iterdir():
        files = [*read(patient / "CT"), *read(patient / "PET")]
        for name in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID"):
            assert len({getattr(x, name) for x in files}) == 1
        assert len({x.SeriesInstanceUID for x in files}) == 2
        assert len({x.SOPInstanceUID for x in files}) == 48


def test_uids_are_unique_and_valid(folder: Path, tmp_path: Path) -> None:
    write_phantoms(tmp_path, patients=1, seed=6, settings=SETTINGS)
    files = [
        pydicom.dcmread(path, stop_before_pixels=True) for top in (folder, tmp_path) for path in top.rglob("*.dcm")
    ]
    assert len({x.SOPInstanceUID for x in files}) == len(files) == 4 * 48
    assert len({x.StudyInstanceUID for x in files}) == 4
    assert all(x.SOPInstanceUID.is_valid and x.SOPInstanceUID.startswith("2.25.") for x in files)


def test_slice_positions_pair_and_matrices_differ(folder: Path) -> None:
    cts, pets = read(folder / "PHANTOM_0001" / "CT"), read(folder / "PHANTOM_0001" / "PET")
    for ct, pet in zip(cts, pets, strict=True):
        assert abs(ct.ImagePositionPatient[2] - pet.ImagePositionPatient[2]) <= 0.001
    assert (cts[0].Rows, pets[0].Rows) == (96, 100)
    steps = np.diff([ct.ImagePositionPatient[2] for ct in cts])
    np.testing.assert_allclose(steps, 3.27, atol=2e-4)


def test_phantom_is_labelled_as_phantom(folder: Path) -> None:
    for series in ("CT", "PET"):
        header = read(folder / "PHANTOM_0002" / series)[0]
        assert str(header.PatientName) == "PHANTOM^0002" and header.PatientID == "PHANTOM_0002"
        assert "PHANTOM" in header.SeriesDescription and "NOT A PATIENT" in header.ImageComments
        assert header.QualityControlSubject == "YES" and header.BurnedInAnnotation == "NO"


def test_equal_arguments_give_equal_files_for_any_number_of_patients(folder: Path, tmp_path: Path) -> None:
    before = digests(folder)
    write_phantoms(folder, patients=3, seed=5, settings=SETTINGS)
    assert digests(folder) == before
    write_phantoms(tmp_path, patients=1, seed=5, settings=SETTINGS)
    assert digests(tmp_path) == {name: d for name, d in before.items() if name.startswith("PHANTOM_0001")}


def test_killed_run_leaves_no_partial_file(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original_replace = Path.replace

    def killed(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == 10:
            raise KeyboardInterrupt
        return original_replace(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_phantoms(tmp_path, patients=3, seed=5, settings=SETTINGS)
    monkeypatch.undo()
    finished = {name: d for name, d in digests(tmp_path).items() if name.endswith(".dcm")}
    assert len(finished) == 9
    assert finished.items() <= digests(folder).items()
    write_phantoms(tmp_path, patients=3, seed=5, settings=SETTINGS)
    assert digests(tmp_path) == digests(folder)  # no leftovers of the killed run


def test_progress_is_reported_for_each_patient(tmp_path: Path) -> None:
    reported = []
    small = PhantomSettings(slices=2, ct_matrix=32, pet_matrix=16)
    folders = write_phantoms(tmp_path, patients=2, settings=small, progress=lambda *step: reported.append(step))
    assert reported == [(1, 2, "PHANTOM_0001"), (2, 2, "PHANTOM_0002")]
    assert folders == (tmp_path / "PHANTOM_0001", tmp_path / "PHANTOM_0002")


@pytest.mark.parametrize("patients", [0, 10_000])
def test_an_impossible_number_of_patients_is_refused(tmp_path: Path, patients: int) -> None:
    with pytest.raises(InputError, match=f"patients must be 1 to 9999, found {patients}"):
        write_phantoms(tmp_path, patients=patients)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="out: is a file; name a folder"):
        write_phantoms(tmp_path / "out", patients=1)


def test_folder_that_cannot_be_created_is_refused(tmp_path: Path) -> None:
    (tmp_path / "PHANTOM_0001").write_text("")  # a file where the patient's folder belongs
    with pytest.raises(InputError, match=r"PHANTOM_0001/CT: cannot be created \(.*\); name a writable folder"):
        write_phantoms(tmp_path, patients=1)


def test_other_files_are_never_mixed_with_a_phantom(folder: Path) -> None:
    shorter = PhantomSettings(slices=20, ct_matrix=96, ct_pixel_mm=4.2)
    with pytest.raises(InputError, match=r"CT: contains 4 other DICOM files \(0021.dcm, \.\.\.\)"):
        write_phantoms(folder, patients=1, seed=5, settings=shorter)


def test_dciodvfy_finds_no_error(folder: Path, require_program: Callable[[str], str]) -> None:
    dciodvfy = require_program("dciodvfy")
    for path in sorted(folder.rglob("*.dcm"))[::3]:
        found = subprocess.run([dciodvfy, str(path)], capture_output=True, text=True, check=False)
        report = found.stdout + found.stderr
        assert "CTImage" in report or "PETImage" in report
        assert "Error" not in report and "Warning" not in report, report


def test_dcmftest_recognises_every_file(folder: Path, require_program: Callable[[str], str]) -> None:
    files = sorted(str(path) for path in folder.rglob("*.dcm"))
    found = subprocess.run([require_program("dcmftest"), *files], capture_output=True, text=True, check=False)
    assert found.returncode == 0
    assert found.stdout.count("yes: ") == len(files) == 3 * 48
