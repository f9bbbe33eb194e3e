"""Independent validators accept the multi-frame test files and a synthetic PET of one."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from lib.dicom.read.volume import read_ct, read_pet, read_synthetic_pet
from lib.dicom.scan.scan import scan_folder
from lib.dicom.write.files import write_series
from lib.dicom.write.pet_series import SyntheticSeries
from tests.dicom.conftest import SLICES
from tests.dicom.enhanced import Kind, read_slices, write_multi_frame
from tests.dicom.write.synthetic_pets import dciodvfy_errors, saved_by_pydicom, synthetic_of


def errors_of(program: str, path: Path) -> tuple[str, list[str]]:
    """Return the object type and the errors reported by dciodvfy."""
    lines = subprocess.run([program, str(path)], capture_output=True, text=True, check=False).stderr.splitlines()
    kinds = [line for line in lines if line.endswith("Image") and " " not in line]
    return kinds[0], [line.strip() for line in lines if line.startswith("Error")]


@pytest.mark.parametrize("kind", ["legacy", "enhanced"])
@pytest.mark.parametrize(("modality", "folder"), [("CT", "CT"), ("PET", "PET")])
def test_the_files_of_these_tests_are_valid(
    study: Path, tmp_path: Path, require_program: Callable[[str], str], modality: str, folder: str, kind: Kind
) -> None:
    slices = read_slices(study / folder)
    for rle in (False, True):
        (path,) = write_multi_frame(slices, tmp_path / f"{rle}", kind=kind, rle=rle, seed=1)
        name = {"legacy": f"LegacyConvertedEnhanced{modality}Image", "enhanced": f"Enhanced{modality}Image"}[kind]
        assert errors_of(require_program("dciodvfy"), path) == (name, [])
        subprocess.run([require_program("dcmftest"), str(path)], check=True, capture_output=True)


@pytest.fixture
def synthetic(study: Path, tmp_path: Path) -> SyntheticSeries:
    """Return SUV computed from the HU of an Enhanced CT in two files."""
    write_multi_frame(read_slices(study / "CT"), tmp_path / "ct", kind="enhanced", files=2, seed=2)
    return synthetic_of(scan_folder(tmp_path / "ct").usable("CT")[0].series)


def test_a_synthetic_pet_of_an_enhanced_ct_is_valid(
    synthetic: SyntheticSeries, tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    folder = write_series(synthetic, tmp_path / "pet")
    for path in sorted(folder.iterdir())[::7]:
        assert dciodvfy_errors(require_program("dciodvfy"), path) == []
    (found,) = scan_folder(folder).series
    assert found.is_synthetic and found.series.slice_count == SLICES
    read = read_synthetic_pet(found.series)
    assert read.geometry.same_grid_as(synthetic.pet.geometry)
    np.testing.assert_allclose(read.array, synthetic.pet.array, atol=float(synthetic.pet.array.max()) / 30_000)


def test_slices_refer_to_their_source_frame(synthetic: SyntheticSeries, tmp_path: Path) -> None:
    files = {one.SOPInstanceUID: one for one in map(dcmread, (tmp_path / "ct").iterdir())}
    assert list(synthetic.files()) == saved_by_pydicom(synthetic)
    pets = list(synthetic.datasets())
    assert len({pet.SOPInstanceUID for pet in pets}) == SLICES
    for pet in pets:
        source = pet.SourceImageSequence[0]
        ct = files[source.ReferencedSOPInstanceUID]
        assert source.ReferencedSOPClassUID == ct.SOPClassUID == "1.2.840.10008.5.1.4.1.1.2.1"
        group = ct.PerFrameFunctionalGroupsSequence[int(source.ReferencedFrameNumber) - 1]
        assert group.PlanePositionSequence[0].ImagePositionPatient == pet.ImagePositionPatient


def test_series_is_reproducible(synthetic: SyntheticSeries, tmp_path: Path) -> None:
    ct = scan_folder(tmp_path / "ct").usable("CT")[0].series
    again = synthetic_of(ct)
    assert again.uid == synthetic.uid
    assert [pet.SOPInstanceUID for pet in again.datasets()] == [pet.SOPInstanceUID for pet in synthetic.datasets()]


@pytest.mark.parametrize("program", ["dcmcjpls", "dcmcjpeg", "dcmcrle"])  # JPEG-LS, JPEG lossless, RLE
@pytest.mark.parametrize(("modality", "folder"), [("CT", "CT"), ("PT", "PET")])
def test_frames_that_dcmtk_compressed_are_read_to_the_bit(
    study: Path, tmp_path: Path, require_program: Callable[[str], str], program: str, modality: str, folder: str
) -> None:
    (plain,) = write_multi_frame(read_slices(study / folder), tmp_path / "plain", kind="enhanced", seed=10)
    (tmp_path / "packed").mkdir()
    subprocess.run([require_program(program), str(plain), str(tmp_path / "packed" / "1.dcm")], check=True)
    read = {"CT": read_ct, "PT": read_pet}[modality]
    packed, expected = (scan_folder(tmp_path / name).usable(modality)[0].series for name in ("packed", "plain"))
    np.testing.assert_array_equal(read(packed).array, read(expected).array)
