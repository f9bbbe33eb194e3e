"""CTs from uploaded files: accepted formats, and the error message for any other file."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread

from ct2pet_app.datastore import ct_source
from ct2pet_app.datastore.ct_source import read_uploaded_ct, source_of_file
from ct2pet_app.server.concurrency import never
from lib.dicom.read.volume import read_ct
from lib.dicom.scan.scan import scan_folder
from lib.errors import ImageFileError
from lib.imaging.files.volume_file import write_volume_file
from lib.imaging.volume import Volume


@pytest.fixture(scope="module")
def ct(phantoms: Path) -> Volume:
    return read_ct(scan_folder(phantoms).usable("CT")[0].series)


def zip_of(files: list[Path], archive: Path, *, names: list[str] | None = None) -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        for number, path in enumerate(files):
            zipped.write(path, names[number] if names else f"{number}.dcm")
    return archive


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_a_volume_file_is_read_on_its_grid(ct: Volume, tmp_path: Path, suffix: str) -> None:
    path = write_volume_file(ct, tmp_path / f"upload{suffix}")
    read = read_uploaded_ct(path, f"Thorax{suffix}")
    assert read.geometry.same_grid_as(ct.geometry, tolerance_mm=1e-4)
    np.testing.assert_array_equal(read.array, ct.array)


def test_padding_far_below_air_becomes_air(ct: Volume, tmp_path: Path) -> None:
    padded = ct.array.copy()
    padded[:, 0, 0] = -3024.0
    path = write_volume_file(Volume(padded, ct.geometry, ct.unit), tmp_path / "upload.nrrd")
    assert read_uploaded_ct(path, "upload.nrrd").array.min() == -1024.0


def test_a_zip_of_a_ct_series_is_read_whatever_its_names_and_order(ct: Volume, phantoms: Path, tmp_path: Path) -> None:
    files = sorted((phantoms / "PHANTOM_0001" / "CT").iterdir(), reverse=True)
    names = [f"../../{number}/evil" for number in range(len(files))]
    archive = zip_of(files, tmp_path / "upload.zip", names=names)
    np.testing.assert_array_equal(read_uploaded_ct(archive, "series.zip").array, ct.array)
    assert not any(path.name == "evil" for path in tmp_path.rglob("*"))


def test_a_folder_of_a_session_is_read(ct: Volume, phantoms: Path) -> None:
    np.testing.assert_array_equal(read_uploaded_ct(phantoms / "PHANTOM_0001" / "CT", "session").array, ct.array)


def test_an_upload_warns_of_an_instance_that_is_left_out(phantoms: Path, tmp_path: Path) -> None:
    shutil.copytree(phantoms / "PHANTOM_0001" / "CT", tmp_path / "CT")
    files = sorted((tmp_path / "CT").iterdir())
    dataset = dcmread(files[0])
    del dataset.ImageOrientationPatient
    dataset.save_as(files[0])
    archive = zip_of(files, tmp_path / "upload.zip")
    with source_of_file(archive, "series.zip").open(never) as opened:
        assert opened.shape[0] == len(files) - 1
        (warning,) = opened.warnings
    assert warning.startswith("1 instance(s) ignored: ImageOrientationPatient is missing")


def test_an_upload_warns_of_a_file_that_is_left_out(phantoms: Path, tmp_path: Path) -> None:
    shutil.copytree(phantoms / "PHANTOM_0001" / "CT", tmp_path / "CT")
    files = sorted((tmp_path / "CT").iterdir())
    files[-1].write_bytes(files[-1].read_bytes()[:400])
    archive = zip_of(files, tmp_path / "upload.zip")
    with source_of_file(archive, "series.zip").open(never) as opened:
        assert opened.shape[0] == len(files) - 1
        assert opened.warnings[-1].startswith("1 file(s) of the upload left out, first: ")


def check_refused(path: Path, name: str, message: str) -> None:
    with pytest.raises(ImageFileError, match=message):
        read_uploaded_ct(path, name)


def test_a_zip_of_two_cts_names_both(phantoms: Path, ct_uids: tuple[str, ...], tmp_path: Path) -> None:
    archive = zip_of(sorted(phantoms.glob("*/CT/*")), tmp_path / "upload.zip")
    check_refused(archive, "both.zip", rf"both\.zip: 2 CT series \({ct_uids[0]}, {ct_uids[1]}\), expected one")


def test_a_zip_of_a_pet_says_what_was_found(phantoms: Path, tmp_path: Path) -> None:
    archive = zip_of(sorted(phantoms.glob("PHANTOM_0001/PET/*")), tmp_path / "upload.zip")
    check_refused(archive, "pet.zip", r"pet\.zip: no usable CT series; found series .* \(PT\): not a CT")


def test_a_zip_of_a_single_slice_says_so(phantoms: Path, tmp_path: Path) -> None:
    archive = zip_of(sorted(phantoms.glob("PHANTOM_0001/CT/*"))[:1], tmp_path / "upload.zip")
    check_refused(archive, "one.zip", "1 slice, expected at least 2")


def test_a_zip_without_dicom_says_so(tmp_path: Path) -> None:
    (tmp_path / "readme").write_text("hello")
    check_refused(zip_of([tmp_path / "readme"], tmp_path / "upload.zip"), "x.zip", "found no DICOM files")


def test_a_zip_that_would_fill_the_disk_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ct_source, "MAX_UNPACKED_BYTES", 1000)
    (tmp_path / "zeros").write_bytes(bytes(1001))
    check_refused(zip_of([tmp_path / "zeros"], tmp_path / "upload.zip"), "bomb.zip", "bomb.zip: more than")


def test_what_only_calls_itself_a_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "upload.zip").write_bytes(b"no zip")
    check_refused(tmp_path / "upload.zip", "series.zip", r"series\.zip: cannot be unpacked .*send a plain zip")


def test_a_file_that_is_cut_off_is_refused_under_the_name_it_came_with(ct: Volume, tmp_path: Path) -> None:
    path = write_volume_file(ct, tmp_path / "upload.nrrd")
    path.write_bytes(path.read_bytes()[:2000])
    check_refused(path, "Thorax.nrrd", r"Thorax\.nrrd: cannot be read as a volume; is the file complete")


def test_a_colour_volume_is_refused(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.Image([8, 8, 4], sitk.sitkVectorUInt8, 3), str(tmp_path / "upload.nrrd"))
    check_refused(tmp_path / "upload.nrrd", "fusion.nrrd", "fusion.nrrd: colour or vector image")


@pytest.mark.parametrize("name", ["ct.dcm", "ct.png", "ct", "ct.nii.gz.exe"])
def test_an_unsupported_file_type_is_refused_with_the_supported_ones(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    check_refused(tmp_path / name, name, r"not a supported file type; send a CT in HU as \.nii\.gz, .* or a \.zip")
