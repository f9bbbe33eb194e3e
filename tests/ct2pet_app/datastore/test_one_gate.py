"""The validation of a CT is the same for all entry points, with the same error message."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from ct2pet_app.datastore.ct_source import read_uploaded_ct, source_of_file, source_of_series
from lib.dicom.scan.open_ct import open_ct
from lib.dicom.scan.scan import scan_folder
from lib.errors import InputError
from lib.imaging.grid import Grid
from lib.imaging.normalize import Windows
from lib.pairing.pairs import pair_series
from lib.pairing.prepare import prepare_pairs
from lib.pairing.prepared import Preparation
from lib.pairing.quality_checks.plausibility import check_pair
from tests.dicom.builders import stored_pixels, write_series

AFFINE = np.diag([-2.0, -2.0, 3.0, 1.0])


def refusal(door: Callable[[], Any]) -> str:
    with pytest.raises(InputError) as error:
        door()
    return str(error.value)


def body_in_air(shape: tuple[int, int, int] = (8, 8, 4)) -> np.ndarray:
    hu = np.full(shape, -1000, np.float32)
    hu[:4] = 20
    return hu


def with_nan() -> nibabel.Nifti1Image:
    hu = body_in_air()
    hu[7] = np.nan
    return nibabel.Nifti1Image(hu, AFFINE)


def in_two_places() -> nibabel.Nifti1Image:
    image = nibabel.Nifti1Image(body_in_air(), AFFINE)
    elsewhere = AFFINE.copy()
    elsewhere[0, 3] = 50
    image.set_qform(elsewhere, 1)
    return image


def turned() -> nibabel.Nifti1Image:
    c, s = np.cos(np.pi / 4), np.sin(np.pi / 4)
    rotation = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    return nibabel.Nifti1Image(body_in_air(), rotation @ AFFINE)


def without_intercept() -> nibabel.Nifti1Image:
    return nibabel.Nifti1Image(body_in_air() + 1024, AFFINE)


FILES = {
    "NaN": (with_nan, "contains 32 NaN or infinite voxels"),
    "two places": (in_two_places, "sform (code 2) and qform (code 1)"),
    "turned in plane": (turned, "oblique volume"),
    "1,024 HU too high": (without_intercept, "not a CT in HU"),
}


@pytest.mark.parametrize(("make", "message"), FILES.values(), ids=FILES)
def test_a_file_is_refused_alike_at_the_command_line_as_upload_and_in_a_session(
    tmp_path: Path, make: Callable[[], nibabel.Nifti1Image], message: str
) -> None:
    path = tmp_path / "ct.nii.gz"
    nibabel.save(make(), path)
    shutil.copy(path, tmp_path / "af73.nii.gz")  # the server stores an upload under a name of its own
    said = {
        refusal(lambda: open_ct(path)),
        refusal(lambda: read_uploaded_ct(tmp_path / "af73.nii.gz", "ct.nii.gz")),
        refusal(source_of_file(tmp_path / "af73.nii.gz", "ct.nii.gz").read),
    }
    assert len(said) == 1 and message in said.pop()


def study(root: Path, **of_ct: Any) -> None:
    write_series(root / "ct", **of_ct)
    write_series(root / "pet", modality="PT")


def padded(k: int) -> dict[str, Any]:
    """Stored numbers from 0, as without an intercept, and padding of -2000 in the corners."""
    pixels = stored_pixels(k) % 300
    pixels[0, :2] = -2000
    return {"PixelData": pixels.tobytes()}


SERIES: dict[str, dict[str, Any]] = {
    "1,024 HU too high": {"RescaleIntercept": 24.0},
    "the same with padding, which is no air": {"RescaleIntercept": 0.0, "vary": padded},
    "only air": {"RescaleIntercept": -1000.0},
}


@pytest.mark.parametrize("of_ct", SERIES.values(), ids=SERIES)
def test_a_series_is_refused_alike_at_every_entry_point(tmp_path: Path, of_ct: dict[str, Any]) -> None:
    study(tmp_path / "study", **of_ct)
    scan = scan_folder(tmp_path / "study")
    (paired,) = pair_series(scan).pairs
    archive = shutil.make_archive(str(tmp_path / "ct"), "zip", tmp_path / "study" / "ct")
    preparation = Preparation(Grid(pixel_mm=2.0), Windows())
    (failed,) = prepare_pairs([paired], tmp_path / "arrays", preparation=preparation).failed
    said = {
        refusal(lambda: open_ct(tmp_path / "study")),
        refusal(lambda: read_uploaded_ct(Path(archive), "ct.zip")),
        refusal(lambda: read_uploaded_ct(tmp_path / "study" / "ct", "ct")),
        refusal(source_of_series(paired.ct, None).read),
        failed.reason,
    }
    assert len(said) == 1
    assert said.pop() in check_pair(paired).reasons[0].replace("cannot be read as CT in HU and PET in SUV: ", "")


def test_air_and_tissue_pass_at_every_entry_point(tmp_path: Path) -> None:
    study(tmp_path, RescaleIntercept=-300.0)
    assert open_ct(tmp_path).array.min() == -300.0
    (paired,) = pair_series(scan_folder(tmp_path)).pairs
    preparation = Preparation(Grid(pixel_mm=2.0), Windows())
    assert not prepare_pairs([paired], tmp_path / "arrays", preparation=preparation).failed


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
def test_padding_below_air_becomes_air_at_every_entry_point(tmp_path: Path, suffix: str) -> None:
    hu = body_in_air()
    hu[7] = -3024
    nibabel.save(nibabel.Nifti1Image(hu, AFFINE), tmp_path / f"ct{suffix}")
    for volume in (
        open_ct(tmp_path / f"ct{suffix}"),
        read_uploaded_ct(tmp_path / f"ct{suffix}", f"ct{suffix}"),
    ):
        assert volume.array.min() == -1024
