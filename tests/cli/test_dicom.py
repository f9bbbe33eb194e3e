"""`synthesize --format dicom` as a person types it, on a phantom."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

import main
from lib.dicom.read.volume import read_synthetic_pet
from lib.dicom.scan.scan import scan_folder
from lib.imaging.files.volume_file import read_volume_file, write_volume_file
from lib.imaging.volume import Unit, Volume
from lib.learning.checkpoint import file_checksum
from lib.phantom.dicom import write_study
from lib.phantom.generate import PhantomSettings, phantom_patient
from tests.ct2pet_app.constant_model import save_constant_model

SMALL = PhantomSettings(slices=8, ct_matrix=48, ct_pixel_mm=8.5, pet_matrix=48, pet_pixel_mm=8.5)


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(phantom_patient(1, 0, SMALL), tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_constant_model(tmp_path_factory.mktemp("model") / "model.safetensors", 2.5)


def synthesize(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    capsys.readouterr()
    code = main.main(["synthesize", *map(str, words), "--json"])
    out, err = capsys.readouterr()
    assert code == 0, err
    return json.loads(out)


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert main.main(["synthesize", *map(str, words)]) == 2
    return capsys.readouterr().err


def test_a_dicom_series_is_written_and_holds_what_a_volume_file_holds(
    study: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (study / "CT", "--model", model, "--out")
    told = synthesize(capsys, *words, tmp_path / "pet", "--format", "dicom")
    synthesize(capsys, *words, tmp_path / "pet.nrrd", "--format", "nrrd")
    (found,) = scan_folder(tmp_path / "pet").series
    assert (told["series_instance_uid"], told["sha256"]) == (found.series.uid, file_checksum(model))
    volume, file = read_synthetic_pet(found.series), read_volume_file(tmp_path / "pet.nrrd", unit=Unit.SUV_BW)
    assert volume.geometry.same_grid_as(file.geometry)
    np.testing.assert_allclose(volume.array, file.array, atol=file.array.max() / 20_000)


def test_a_slabs_files_are_those_of_the_whole(
    study: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (study / "CT", "--model", model, "--format", "dicom", "--out")
    synthesize(capsys, *words, tmp_path / "whole")
    synthesize(capsys, *words, tmp_path / "slab", "--slices", "2:5")
    slab = {path.name: path.read_bytes() for path in (tmp_path / "slab").iterdir()}
    assert sorted(slab) == ["0003.dcm", "0004.dcm", "0005.dcm"]
    assert all((tmp_path / "whole" / name).read_bytes() == file for name, file in slab.items())


def test_a_ct_without_a_study_makes_no_dicom_series(
    study: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volume = phantom_patient(1, 0, SMALL).ct
    write_volume_file(Volume(volume.array, volume.geometry, Unit.HU), tmp_path / "ct.nrrd")
    words = (tmp_path / "ct.nrrd", "--model", model, "--format", "dicom", "--out", tmp_path / "pet")
    assert "ct.nrrd: a file without patient and study" in refused(capsys, *words)
    assert not (tmp_path / "pet").exists()


def test_a_folder_with_other_files_is_left_as_it_is(
    study: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(study, tmp_path / "study")
    ct = tmp_path / "study" / "CT"
    before = sorted(ct.iterdir())
    assert "expected an empty folder" in refused(capsys, ct, "--model", model, "--format", "dicom", "--out", ct)
    assert sorted(ct.iterdir()) == before


def test_simpleitk_opens_the_folder_as_one_series(
    study: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = synthesize(capsys, study / "CT", "--model", model, "--format", "dicom", "--out", tmp_path / "pet")
    reader = sitk.ImageSeriesReader()
    assert reader.GetGDCMSeriesIDs(str(tmp_path / "pet")) == (told["series_instance_uid"],)
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "pet")))
    assert reader.Execute().GetSize() == (48, 48, 8)
