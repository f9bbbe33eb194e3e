"""Which volumes are accepted as a CT in HU, and the error message for any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lib.dicom.read.volume import read_ct, read_pet
from lib.dicom.scan.scan import scan_folder
from lib.errors import ImageFileError
from lib.imaging.files.volume_file import read_volume_file, write_volume_file
from lib.imaging.geometry import Geometry
from lib.imaging.validation import refuse_unless_ct
from lib.imaging.volume import Unit, Volume


def volume_of(array: np.ndarray) -> Volume:
    values = np.asarray(array, dtype=np.float32)
    return Volume(values, Geometry(values.shape, np.diag([1.0, 1.0, 3.0, 1.0])), Unit.HU)


def body_in_air(slices: int = 4) -> np.ndarray:
    """A block of water in air: half the voxels -1000, half 0."""
    array = np.full((slices, 8, 8), -1000.0)
    array[:, :, :4] = 0.0
    return array


@pytest.mark.parametrize("name", ["STS_001", "STS_029", "STS_037"])  # 029 has the least air of the 36 limbs
def test_a_real_ct_passes(sts_folder: Path, name: str) -> None:
    ct = read_ct(scan_folder(sts_folder / name / "CT").usable("CT")[0].series)
    assert refuse_unless_ct(ct, name) is None


def test_a_chest_ct_passes_after_a_journey_through_nifti(shared_data: Path, tmp_path: Path) -> None:
    ct = read_ct(scan_folder(shared_data / "ct_only").usable("CT")[0].series)
    path = write_volume_file(ct, tmp_path / "chest.nii.gz")
    assert refuse_unless_ct(read_volume_file(path, unit=Unit.HU), "chest.nii.gz") is None


def test_a_real_pet_in_suv_is_refused(sts_folder: Path) -> None:
    pet = read_pet(scan_folder(sts_folder / "STS_001" / "PET").usable("PT")[0].series)
    with pytest.raises(ImageFileError, match=r"pet\.nrrd: not a CT in HU.* It looks like a PET or an MR"):
        refuse_unless_ct(pet, "pet.nrrd")


def test_a_block_of_water_in_air_passes() -> None:
    assert refuse_unless_ct(volume_of(body_in_air()), "block") is None


GREY = np.linspace(0, 255, 4 * 8 * 8).reshape(4, 8, 8)
REFUSED = {
    "8-bit picture": (GREY, "values from 0 to 255.*8-bit picture"),
    "stored values": (body_in_air() + 1024 + GREY * 8, "values from .*without RescaleIntercept"),
    "MR": (GREY * 8, "MR: export the CT as HU"),
    "z-scores": ((GREY - 127) / 60, "normalised"),
    "unit range": (GREY / 255, "PET or an MR"),
    "thousandths of HU": (body_in_air() / 1000, "normalised"),
    "air only": (np.full((4, 8, 8), -1000.0) - GREY / 100, "0.0% up to 300"),
    "one value": (np.zeros((4, 8, 8)), "every voxel is 0"),
    "a single slice": (body_in_air(1), "1 slice, expected a CT volume of at least 2"),
    "beyond 16 bits": (body_in_air() + np.pad([40000.0], (0, 7)), "values up to 40000, expected a CT in HU"),
}


@pytest.mark.parametrize(("array", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_ct_is_refused_with_what_was_found(array: np.ndarray, message: str) -> None:
    with pytest.raises(ImageFileError, match=message):
        refuse_unless_ct(volume_of(array), "upload.nii.gz")
