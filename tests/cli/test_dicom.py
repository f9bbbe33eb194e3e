"""`synthesize --format dicom` on a phantom."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from lib.dicom.read.volume import read_synthetic_pet
from lib.dicom.scan.scan import scan_folder
from lib.files import file_checksum
from lib.imaging.files.volume_file import read_volume_file, write_volume_file
from lib.imaging.volume import Unit, Volume
from lib.phantom.dicom import write_study
from lib.phantom.generate import PhantomSettings, phantom_patient
from tests.cli.runner import refused, run_json
from tests.ct2pet_app.constant_model import save_constant_model

SMALL = PhantomSettings(slices=8, ct_matrix=48, ct_pixel_mm=8.5, pet_matrix=48, pet_pixel_mm=8.5)


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(phantom_patient(1, 0, SMALL), tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_constant_model(tmp_path_factory.mktemp("model") / "model.safetensors", 2.5)


def test_a_dicom_series_has_the_voxels_of_a_volume_file(
    study: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (study / "CT", "--model", model, "--out")
    result = run_json(capsys, "synthesize", *arguments, tmp_path / "pet", "--format", "dicom")
    run_json(capsys, "synthesize", *arguments, tmp_path / "pet.nrrd", "--format", "nrrd")
    (found,) = scan_folder(tmp_path / "pet").series
    assert (result["series_instance_uid"], result["sha256"]) == (found.series.uid, file_checksum(model))
    volume, file = read_synthetic_pet(found.series), read_volume_file(tmp_path / "pet.nrrd", unit=Unit.SUV_BW)
    assert volume.geometry.same_grid_as(file.geometry)
    np.testing.assert_allclose(volume.array, file.array, atol=file.array.max() / 20_000)


def test_a_slab_gives_the_same_files_as_the_whole_volume(
    study: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (study / "CT", "--model", model, "--format", "dicom", "--out")
    run_json(capsys, "synthesize", *arguments, tmp_path / "whole")
    run_json(capsys, "synthesize", *arguments, tmp_path / "slab", "--slices", "2:5")
    slab = {path.name: path.read_bytes() for path in (tmp_path / "slab").iterdir()}
    assert sorted(slab) == ["0003.dcm", "0004.dcm", "0005.dcm"]
    assert all((tmp_path / "whole" / name).read_bytes() == file for name, file in slab.items())


def test_a_volume_file_cannot_be_written_as_dicom(
    study: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volume = phantom_patient(1, 0, SMALL).ct
    write_volume_file(Volume(volume.array, volume.geometry, Unit.HU), tmp_path / "ct.nrrd")
    arguments = (tmp_path / "ct.nrrd", "--model", model, "--format", "dicom", "--out", tmp_path / "pet")
    assert "ct.nrrd: a file without patient and study" in refused(capsys, "synthesize", *arguments)
    assert not (tmp_path / "pet").exists()


def test_a_folder_with_another_series_is_not_changed(
    study: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(study, tmp_path / "study")
    ct = tmp_path / "study" / "CT"
    before = sorted(ct.iterdir())
    assert "expected an empty folder" in refused(
        capsys, "synthesize", ct, "--model", model, "--format", "dicom", "--out", ct
    )
    assert sorted(ct.iterdir()) == before


def test_simpleitk_opens_the_folder_as_one_series(
    study: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run_json(
        capsys, "synthesize", study / "CT", "--model", model, "--format", "dicom", "--out", tmp_path / "pet"
    )
    reader = sitk.ImageSeriesReader()
    assert reader.GetGDCMSeriesIDs(str(tmp_path / "pet")) == (result["series_instance_uid"],)
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "pet")))
    assert reader.Execute().GetSize() == (48, 48, 8)
