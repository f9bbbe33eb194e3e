"""The expected error of a synthetic PET: from its own SUV, inside the body, also for slabs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.dicom.scan.open_ct import open_ct
from lib.errors import CheckpointError, InputError
from lib.imaging.geometry import Geometry
from lib.imaging.volume import Unit, Volume
from lib.learning.checkpoint import save_checkpoint
from lib.metrics.calibration import Calibration
from lib.networks.cascade import Cascade
from lib.synthesis.synthesizer import Synthesizer
from lib.synthesis.uncertainty import apply_with_uncertainty, expected_error, mean_expected_error_suv
from tests.learning.conftest import make_card, tiny_recipe

CURVE = Calibration(np.array([0.0, 4.0]), np.array([0.1, 2.1]), volumes=3)  # half the SUV, and 0.1


def load(path: Path, calibration: Calibration | None) -> Synthesizer:
    torch.manual_seed(0)
    recipe = tiny_recipe()
    card = make_card(
        recipe=recipe,
        network=recipe.network,
        calibration=None if calibration is None else calibration.to_json(),
    )
    return Synthesizer.load(save_checkpoint(path, Cascade(recipe.network), card), device="cpu")


@pytest.fixture(scope="module")
def synthesizer(tmp_path_factory: pytest.TempPathFactory) -> Synthesizer:
    return load(tmp_path_factory.mktemp("model") / "model.safetensors", CURVE)


@pytest.fixture
def ct() -> Volume:
    """A block of soft tissue with a lung in it, in air: 5 slices of 40 x 48 pixels of 1.5 mm."""
    ct_hu = np.full((5, 40, 48), -1000, np.float32)
    ct_hu[:, 8:32, 10:40] = 40
    ct_hu[:, 14:22, 16:24] = -850
    geometry = Geometry.from_dicom(
        (5, 40, 48),
        first_position_mm=(0, 0, 0),
        orientation=(1, 0, 0, 0, 1, 0),
        pixel_spacing_mm=(1.5, 1.5),
        slice_spacing_mm=3.0,
    )
    return Volume(ct_hu, geometry, Unit.HU)


def test_the_expected_error_is_in_suv_on_the_grid_of_the_pet(synthesizer: Synthesizer, ct: Volume) -> None:
    pet, error = apply_with_uncertainty(synthesizer, ct)
    np.testing.assert_array_equal(pet.array, synthesizer.apply(ct).array)
    assert error.unit is Unit.SUV_BW and error.array.dtype == np.float32
    assert error.geometry.same_grid_as(ct.geometry)


def test_each_voxel_of_the_body_has_the_error_of_its_suv_and_air_has_0(ct: Volume) -> None:
    pet = Volume(np.full(ct.array.shape, 2.0, np.float32), ct.geometry, Unit.SUV_BW)
    error = expected_error(pet, ct, CURVE).array
    np.testing.assert_allclose(error[:, 9:31, 11:39], 1.1, rtol=1e-6)  # the lung is body, too
    assert not error[:, :6].any() and not error[:, :, 42:].any()


@pytest.mark.parametrize("slices", [slice(0, 1), slice(1, 4), slice(-2, None)])
def test_a_slab_equals_the_same_slices_of_the_full_volume(synthesizer: Synthesizer, ct: Volume, slices: slice) -> None:
    full, slab = (apply_with_uncertainty(synthesizer, ct, wanted) for wanted in (None, slices))
    for all_of_it, part in zip(full, slab, strict=True):
        np.testing.assert_array_equal(part.array, all_of_it.array[slices])
    assert slab[1].geometry.same_grid_as(slab[0].geometry)


def test_a_slab_of_a_real_ct_equals_the_slices_of_the_full_volume(synthesizer: Synthesizer, shared_data: Path) -> None:
    ct = open_ct(shared_data / "ct_only" / "Lung_Dx-A0001")
    _, full = apply_with_uncertainty(synthesizer, ct, slice(4, 9))
    _, slab = apply_with_uncertainty(synthesizer, ct, slice(6, 8))
    np.testing.assert_array_equal(slab.array, full.array[2:4])
    assert full.array.any() and (full.array == 0).any()


@pytest.mark.parametrize("axes", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (2, 1, 0), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("flip", [False, True])
def test_the_expected_error_is_the_same_in_every_voxel_order(
    synthesizer: Synthesizer, ct: Volume, axes: tuple[int, int, int], flip: bool
) -> None:
    """The body is filled in axial slices: in the stored ones the lung of this block would be a hole, or not."""
    _, expected = apply_with_uncertainty(synthesizer, ct)
    affine = ct.geometry.affine.copy()
    affine[:3, :3] = ct.geometry.affine[:3, [2 - axis for axis in axes][::-1]]
    array, wanted = ct.array.transpose(axes), expected.array.transpose(axes)
    if flip:  # slices run the other way
        affine[:3, 3] += (array.shape[0] - 1) * affine[:3, 2]
        affine[:3, 2] *= -1
        array, wanted = array[::-1], wanted[::-1]
    stored = Volume(np.ascontiguousarray(array), Geometry(array.shape, affine), Unit.HU)
    pet, error = apply_with_uncertainty(synthesizer, stored)
    np.testing.assert_array_equal(error.array, wanted)
    assert mean_expected_error_suv(pet, stored, CURVE) == pytest.approx(
        mean_expected_error_suv(synthesizer.apply(ct), ct, CURVE), rel=1e-9
    )
    _, slab = apply_with_uncertainty(synthesizer, stored, slice(1, 3))
    np.testing.assert_array_equal(slab.array, wanted[1:3])


def test_a_card_without_calibration_is_rejected_before_any_work(tmp_path: Path, ct: Volume) -> None:
    def never(done: int, total: int, what: str) -> None:
        raise AssertionError("work was begun")

    with pytest.raises(
        CheckpointError, match=r"tiny carries no calibration.*one model that was trained with validation patients"
    ):
        apply_with_uncertainty(load(tmp_path / "model.safetensors", None), ct, progress=never)


def test_a_damaged_calibration_is_rejected(synthesizer: Synthesizer, ct: Volume) -> None:
    damaged = replace(synthesizer.card, calibration={**CURVE.to_json(), "error_suv": [2.0, 1.0]})
    other = Synthesizer(Cascade(damaged.network), damaged, checksum="0", device=torch.device("cpu"))
    with pytest.raises(CheckpointError, match=r"model card of tiny: .*non-decreasing"):
        apply_with_uncertainty(other, ct)


def test_a_volume_that_is_not_in_hu_is_rejected(synthesizer: Synthesizer, ct: Volume) -> None:
    with pytest.raises(InputError, match="expected a CT in HU"):
        apply_with_uncertainty(synthesizer, replace(ct, unit=Unit.SUV_BW))
