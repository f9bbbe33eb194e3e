"""Predictions of external programs: found by the CT's UID, resampled onto our grid, rejected where invalid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from lib.errors import ImageFileError, InputError, PairingError
from lib.evaluation.external_predictions import (
    ExternalPredictions,
    parse_external_predictions,
    read_external_prediction,
)
from lib.imaging.files.volume_file import write_volume_file
from lib.imaging.geometry import Geometry
from lib.imaging.resample_2d import resample_in_plane
from lib.imaging.volume import Unit, Volume
from tests.evaluation.axial_slices import axial_slices

SHAPE = (6, 20, 24)
UID = "1.2.3"


GRID = axial_slices(SHAPE, 4.0)
BODY = np.zeros(SHAPE, bool)
BODY[:, 4:16, 4:20] = True


def ramp(geometry: Geometry) -> Volume:
    """SUV that increases by 0.05 per mm towards the left and by 0.02 towards the head."""
    k, r, c = np.indices(geometry.shape)
    at = geometry.to_world(np.stack([c.ravel(), r.ravel(), k.ravel()], axis=1).astype(float))
    return Volume((0.05 * at[:, 0] + 0.02 * at[:, 2]).reshape(geometry.shape), geometry, Unit.SUV_BW)


def read(folder: Path) -> np.ndarray:
    return read_external_prediction(ExternalPredictions("other", folder), UID, geometry=GRID, body=BODY)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii.gz", ".nii"])
def test_a_volume_on_the_grid_is_unchanged(tmp_path: Path, suffix: str) -> None:
    write_volume_file(ramp(GRID), tmp_path / f"{UID}{suffix}")
    np.testing.assert_allclose(read(tmp_path), ramp(GRID).array, atol=1e-5)


def test_a_volume_on_the_cts_pixels_is_resampled_in_plane(tmp_path: Path) -> None:
    fine = ramp(axial_slices((6, 80, 96), 1.0))
    noisy = Volume(fine.array + np.random.default_rng(0).random(fine.array.shape), fine.geometry, Unit.SUV_BW)
    write_volume_file(noisy, tmp_path / f"{UID}.nrrd")
    np.testing.assert_allclose(read(tmp_path), resample_in_plane(noisy.array, *SHAPE[1:]), atol=1e-5)


def test_any_other_grid_is_interpolated(tmp_path: Path) -> None:
    write_volume_file(
        ramp(axial_slices((12, 30, 34), 3.3, slice_mm=2.1, left_mm=-5, feet_mm=-3)), tmp_path / f"{UID}.mha"
    )
    np.testing.assert_allclose(read(tmp_path)[BODY], ramp(GRID).array[BODY], atol=1e-4)


def test_voxels_outside_the_prediction_are_0(tmp_path: Path) -> None:
    write_volume_file(ramp(axial_slices((6, 18, 22), 4.0)), tmp_path / f"{UID}.mha")
    found = read(tmp_path)
    assert (found[:, 18:] == 0).all() and (found[:, :, 22:] == 0).all()
    np.testing.assert_allclose(found[BODY], ramp(GRID).array[BODY], atol=1e-4)


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        (axial_slices(SHAPE, 4.0, left_mm=500), r"covers 0% of the evaluated body, expected at least 95%"),
        (axial_slices((3, 20, 24), 4.0), r"covers 50% of the evaluated body, .* write the full volume, with"),
    ],
)
def test_a_volume_that_covers_too_little_is_rejected(tmp_path: Path, geometry: Geometry, message: str) -> None:
    write_volume_file(ramp(geometry), tmp_path / f"{UID}.nrrd")
    with pytest.raises(PairingError, match=rf"other, 1\.2\.3\.nrrd: {message}"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("factor", "shift", "message"),
    [
        (5000, 0, r"values from .* to .*, expected SUVbw between -5 and 500; is it in Bq/mL, or scaled\?"),
        (1, -1000, r"expected SUVbw between -5 and 500; is it a CT, or normalised\?"),
    ],
)
def test_values_that_are_not_suvs_are_rejected(tmp_path: Path, factor: float, shift: float, message: str) -> None:
    write_volume_file(Volume(ramp(GRID).array * factor + shift, GRID, Unit.SUV_BW), tmp_path / f"{UID}.nrrd")
    with pytest.raises(ImageFileError, match=message):
        read(tmp_path)


def test_integer_voxels_are_rejected(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.ones(SHAPE, np.int16)), str(tmp_path / f"{UID}.nrrd"))
    with pytest.raises(ImageFileError, match="voxels are integers, expected SUVbw as float"):
        read(tmp_path)


def test_a_missing_volume_and_two_volumes_of_one_ct_are_reported(tmp_path: Path) -> None:
    with pytest.raises(ImageFileError, match=r"other has no volume of CT 1\.2\.3; expected one file, named by"):
        read(tmp_path)
    for suffix in (".nrrd", ".mha"):
        write_volume_file(ramp(GRID), tmp_path / f"{UID}{suffix}")
    with pytest.raises(ImageFileError, match=r"other has 2 volumes \(1\.2\.3\.nrrd, 1\.2\.3\.mha\) of CT"):
        read(tmp_path)


def test_names_and_folders_are_parsed(tmp_path: Path) -> None:
    assert parse_external_predictions([f"KonfAI-1.8={tmp_path}"]) == (ExternalPredictions("KonfAI-1.8", tmp_path),)
    assert parse_external_predictions([]) == ()


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["{folder}"], "expected NAME=FOLDER"),
        (["={folder}"], "expected NAME=FOLDER"),
        (["<b>={folder}"], "expected NAME=FOLDER"),
        (["model={folder}"], "the name 'model' is reserved or already used"),
        (["hu_mean={folder}"], "the name 'hu_mean' is reserved or already used"),
        (["a={folder}", "a={folder}"], "the name 'a' is reserved or already used"),
        (["a={folder}/none"], "a: .*none is not a folder"),
    ],
)
def test_invalid_texts_are_rejected(tmp_path: Path, texts: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_external_predictions([text.format(folder=tmp_path) for text in texts])
