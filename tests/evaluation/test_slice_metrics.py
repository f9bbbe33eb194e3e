"""Comparison of a synthetic with a real PET, on cases with a known result."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from lib.errors import PairingError
from lib.evaluation.slice_metrics import AlignedVolumes, align, compare, compare_with_real
from lib.imaging.geometry import Geometry
from lib.imaging.grid import Grid
from lib.imaging.volume import Unit, Volume
from lib.learning.model_card.card import ModelCard
from lib.types import FloatArray
from tests.evaluation.axial_slices import axial_slices
from tests.learning.conftest import make_card, tiny_recipe

SLICES, SIZE = 6, 48
GRID = Grid(pixel_mm=2.0)


@pytest.fixture
def ct() -> Volume:
    """A trunk of 40 HU, 28 x 36 pixels, in air."""
    ct_hu = np.full((SLICES, SIZE, SIZE), -1000, np.float32)
    ct_hu[:, 10:38, 6:42] = 40
    return Volume(ct_hu, axial_slices(ct_hu.shape), Unit.HU)


def pet_on(geometry: Geometry, *, scale: float = 1.0) -> Volume:
    """A PET whose SUV increases by 0.1 per mm towards the left and by 0.01 per mm towards the head."""
    c, k = np.meshgrid(np.arange(geometry.shape[2]), np.arange(geometry.shape[0]))
    where = geometry.to_world(np.stack([c.ravel(), 0 * c.ravel(), k.ravel()], axis=1).astype(float))
    suv = (0.1 * where[:, 0] + 0.01 * where[:, 2]).reshape(geometry.shape[0], 1, geometry.shape[2]) * scale
    return Volume(np.broadcast_to(suv, geometry.shape).astype(np.float32), geometry, Unit.SUV_BW)


def suv_at(column: int, k: int) -> float:
    return 0.1 * (2 * column + 1) + 0.01 * 3 * k


def test_ct_and_both_pets_are_resampled_to_the_recipes_pixels(ct: Volume) -> None:
    pet = pet_on(axial_slices((SLICES, 24, 24), pixel_mm=4.0))
    aligned = align(pet_on(ct.geometry, scale=2.0), ct=ct, pet=pet, grid=GRID)
    assert aligned.real_suv.shape == aligned.synthetic_suv.shape == aligned.ct_hu.shape == (SLICES, SIZE, SIZE)
    assert aligned.pixel_mm == pytest.approx((2.0, 2.0))
    assert aligned.real_suv[4, 20, 30] == pytest.approx(suv_at(30, 4), abs=1e-4)
    assert aligned.synthetic_suv[4, 20, 30] == pytest.approx(2 * suv_at(30, 4), abs=1e-4)
    expected = np.zeros((SLICES, SIZE, SIZE), bool)
    expected[:, 10:38, 6:42] = True
    np.testing.assert_array_equal(aligned.body, expected)
    assert aligned.measured.all()


def test_coarser_pixels_are_averaged(ct: Volume) -> None:
    synthetic = pet_on(ct.geometry)
    aligned = align(synthetic, ct=ct, pet=pet_on(ct.geometry), grid=Grid(size=16))
    assert aligned.pixel_mm == pytest.approx((6.0, 6.0))
    # three columns of 2 mm: a triangle's mean of a ramp is the value in the middle
    assert aligned.synthetic_suv[0, 8, 8] == pytest.approx(suv_at(25, 0), abs=1e-4)


def test_a_slab_is_compared_with_its_own_slices(ct: Volume) -> None:
    full = pet_on(ct.geometry)
    slab = align(full.slab(slice(2, 5)), ct=ct, pet=full, grid=GRID)
    all_slices = align(full, ct=ct, pet=full, grid=GRID)
    for name in ("ct_hu", "synthetic_suv", "real_suv", "body", "measured"):
        np.testing.assert_array_equal(getattr(slab, name), getattr(all_slices, name)[2:5])


def test_voxels_outside_the_real_pet_are_ignored(ct: Volume) -> None:
    pet = pet_on(axial_slices((SLICES, 24, 12), pixel_mm=4.0, left_mm=48.0))  # the left half of the patient
    aligned = align(pet_on(ct.geometry), ct=ct, pet=pet, grid=GRID)
    assert not aligned.measured[..., :24].any() and aligned.measured[..., 24:].all()
    assert not aligned.body[..., :24].any() and aligned.body[:, 10:38, 24:42].all()
    assert not aligned.real_suv[..., :24].any()


def test_a_synthetic_pet_of_another_ct_is_rejected(ct: Volume) -> None:
    moved = pet_on(axial_slices((SLICES, SIZE, SIZE), left_mm=1.0))
    with pytest.raises(PairingError, match="is not on the CT's slices"):
        align(moved, ct=ct, pet=pet_on(ct.geometry), grid=GRID)
    coarser = pet_on(axial_slices((SLICES, 24, 24), pixel_mm=4.0))
    with pytest.raises(PairingError, match="is not on the CT's slices"):
        align(coarser, ct=ct, pet=pet_on(ct.geometry), grid=GRID)


@pytest.mark.parametrize("feet_mm", [9.0, -3.0])
def test_a_synthetic_pet_that_extends_beyond_the_ct_is_rejected(ct: Volume, feet_mm: float) -> None:
    beyond = pet_on(axial_slices((SLICES, SIZE, SIZE), feet_mm=feet_mm))
    with pytest.raises(PairingError, match="is not on the CT's slices"):
        align(beyond, ct=ct, pet=pet_on(ct.geometry), grid=GRID)


def test_a_real_pet_that_does_not_overlap_is_rejected(ct: Volume) -> None:
    elsewhere = pet_on(axial_slices((SLICES, SIZE, SIZE), feet_mm=500.0))
    with pytest.raises(PairingError, match="the real PET does not overlap the synthetic one"):
        align(pet_on(ct.geometry), ct=ct, pet=elsewhere, grid=GRID)


# -- metrics -----------------------------------------------------------------------------------------------------------


def fine_card() -> ModelCard:
    """Return a card whose pixels are those of the CT."""
    recipe = tiny_recipe("pixel_mm=2.0")
    return make_card(recipe=recipe, network=recipe.network)


def test_the_metrics_of_the_real_pet_are_perfect(ct: Volume) -> None:
    pet = pet_on(ct.geometry)
    model = compare_with_real(pet, ct=ct, pet=pet, card=fine_card()).metrics["model"]
    for zero in ("mae_suv", "mse", "mae_suv_body", "mse_body", "bias_suv_body"):
        assert getattr(model, zero) == 0.0
    for one in ("ssim", "ssim_body", "vif", "vif_body", "correlation_body"):
        assert getattr(model, one) == pytest.approx(1.0, abs=1e-6)
    assert (model.psnr_db, model.psnr_db_body) == (math.inf, math.inf)
    assert model.as_json()["psnr_db"] is None


def constant(value: float) -> FloatArray:
    return np.full((2, SIZE, SIZE), value, np.float32)


def two_slices(**changes: Any) -> AlignedVolumes:
    """Real SUV 2 everywhere, synthetic 3, body in the left half, one CT number."""
    body = np.zeros((2, SIZE, SIZE), bool)
    body[..., 24:] = True
    given: dict[str, Any] = {
        "ct_hu": constant(40),
        "synthetic_suv": constant(3),
        "real_suv": constant(2),
        "body": body,
        "measured": np.ones_like(body),
        "geometry": axial_slices((2, SIZE, SIZE)),
    }
    return AlignedVolumes(**(given | changes))


@pytest.mark.parametrize(
    ("method", "mae", "mae_body"),
    [
        ("model", 1.0, 1.0),
        ("zero", 2.0, 2.0),
        ("constant", 1.5, 1.0),  # SUV 1 in the body, 0 outside
        ("hu_mean", 1.25, 0.5),  # 40 HU: 1.5 in the body
        ("hu_median", 1.5, 1.0),  # 40 HU: 1 in the body
    ],
)
def test_model_and_baselines_have_the_expected_errors(method: str, mae: float, mae_body: float) -> None:
    metrics = compare(two_slices(), make_card()).metrics[method]
    assert (metrics.mae_suv, metrics.mae_suv_body) == pytest.approx((mae, mae_body))
    assert metrics.psnr_db_body == pytest.approx(10 * math.log10(100 / mae_body**2))


def test_unmeasured_voxels_are_ignored() -> None:
    measured = np.ones((2, SIZE, SIZE), bool)
    measured[:, :10] = False
    wild = constant(3)
    wild[:, :10] = 1000
    metrics = compare(two_slices(synthetic_suv=wild, measured=measured), make_card()).metrics["model"]
    assert (metrics.mae_suv, metrics.mae_suv_body) == pytest.approx((1.0, 1.0))


def test_metrics_as_json_by_method() -> None:
    result = compare(two_slices(), make_card()).as_json()
    assert list(result) == ["model", "zero", "constant", "hu_mean", "hu_median"]
    assert result["zero"]["mae_suv"] == 2.0


def test_a_card_without_baselines_is_rejected() -> None:
    with pytest.raises(
        PairingError, match="the model card of tiny has no baselines to compare with; train the model again"
    ):
        compare(two_slices(), make_card(baselines=None))
