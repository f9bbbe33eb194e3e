"""Phantom patients: HU and SUV of tissues, lesions, settings and reproducibility."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from lib.errors import InputError
from lib.phantom.anatomy import random_anatomy
from lib.phantom.generate import PhantomPatient, PhantomSettings, phantom_patient
from lib.phantom.scanner import blur, scan_ct, scan_pet, smooth_noise
from lib.phantom.tissues import Tissue

SETTINGS = PhantomSettings()


@pytest.fixture(scope="module")
def patient() -> PhantomPatient:
    return phantom_patient(1, 0, SETTINGS)


def core(labels: np.ndarray, tissue: Tissue, steps: int) -> np.ndarray:
    """Return a mask of a tissue's voxels whose neighbours at `steps` along each axis are of the same tissue."""
    mask = labels == tissue
    for _ in range(steps):
        smaller = mask.copy()
        for axis in range(3):
            for shift in (-1, 1):
                smaller &= np.roll(mask, shift, axis=axis)
        mask = smaller
    mask[:steps], mask[-steps:] = False, False
    return mask


@pytest.mark.parametrize(
    ("tissue", "low_hu", "high_hu"),
    [
        (Tissue.AIR, -1002, -998),
        (Tissue.LUNG, -860, -740),  # denser towards the back
        (Tissue.FAT, -102, -98),
        (Tissue.MUSCLE, 48, 52),
        (Tissue.BLOOD, 40, 44),
        (Tissue.LIVER, 58, 62),
    ],
)
def test_tissues_have_their_hu(tissue: Tissue, low_hu: float, high_hu: float) -> None:
    patient = phantom_patient(3, 0, SETTINGS)  # whose liver reaches into the scan
    inside = core(patient.tissues_on(patient.ct.geometry), tissue, 2)
    assert inside.sum() > 50
    assert low_hu <= patient.ct.array[inside].mean() <= high_hu


@pytest.mark.parametrize("tissue", [Tissue.LIVER, Tissue.MUSCLE, Tissue.FAT, Tissue.BLOOD])
def test_tissues_have_their_uptake(tissue: Tissue) -> None:
    # without the slow waves and the blur the mean uptake of a tissue is the patient's own number
    still = phantom_patient(3, 0, replace(SETTINGS, psf_fwhm_mm=0.0))
    anatomy = replace(still.anatomy, waves=(), lesions=())
    suv_bw = scan_pet(
        anatomy,
        still.pet.geometry,
        origin_mm=still.origin_mm,
        psf_fwhm_mm=0,
        noise_suv=0.06,
        rng=np.random.default_rng(0),
    )
    inside = core(still.tissues_on(still.pet.geometry), tissue, 1)
    assert inside.sum() > 20
    assert suv_bw[inside].mean() == pytest.approx(anatomy.suv_bw[tissue], rel=0.02)


def test_the_scanned_uptake_stays_near_the_truth() -> None:
    patient = phantom_patient(3, 0, SETTINGS)
    inside = core(patient.tissues_on(patient.pet.geometry), Tissue.LIVER, 3)
    # the waves change it by at most 4 x 3 %
    assert patient.pet.array[inside].mean() == pytest.approx(patient.anatomy.suv_bw[Tissue.LIVER], rel=0.12)


def test_air_has_no_uptake_and_no_value_is_negative(patient: PhantomPatient) -> None:
    air = core(patient.tissues_on(patient.pet.geometry), Tissue.AIR, 4)
    assert patient.pet.array.min() >= 0
    assert patient.pet.array[air].mean() < 0.02


def test_a_lung_nodule_is_dense_and_hot(patient: PhantomPatient) -> None:
    lesion = next(x for x in patient.anatomy.lesions if x.visible_on_ct and x.radius_mm > 8)
    centre = np.array([np.add(lesion.centre_mm, patient.origin_mm)])
    c, r, k = np.rint(patient.ct.geometry.to_voxel(centre)[0]).astype(int)
    assert patient.ct.array[k, r - 1 : r + 2, c - 1 : c + 2].mean() == pytest.approx(35, abs=20)
    c, r, k = np.rint(patient.pet.geometry.to_voxel(centre)[0]).astype(int)
    assert patient.pet.array[k, r, c] == pytest.approx(lesion.suv_bw, rel=0.3)


def test_a_hidden_lesion_is_in_the_pet_alone(patient: PhantomPatient) -> None:
    anatomy = patient.anatomy
    without = replace(anatomy, lesions=tuple(x for x in anatomy.lesions if x.visible_on_ct))
    assert len(without.lesions) < len(anatomy.lesions)

    def scans(body):
        place = {"origin_mm": patient.origin_mm}
        ct = scan_ct(body, patient.ct.geometry, **place, noise_hu=12, rng=np.random.default_rng(0))
        pet = scan_pet(body, patient.pet.geometry, **place, psf_fwhm_mm=6, noise_suv=0.06, rng=np.random.default_rng(0))
        return ct, pet

    (ct_with, pet_with), (ct_without, pet_without) = scans(anatomy), scans(without)
    np.testing.assert_array_equal(ct_with, ct_without)
    assert (pet_with - pet_without).max() > 1


def test_every_patient_has_lesions_of_both_kinds_and_uptake_beyond_the_ct() -> None:
    bodies = [random_anatomy(np.random.default_rng(n)) for n in range(40)]
    for body in bodies:
        assert {x.visible_on_ct for x in body.lesions} == {True, False}
        assert all(3 <= x.suv_bw <= 12 for x in body.lesions)
        assert 45 < body.weight_kg < 110
    myocardium = [body.suv_bw[Tissue.MYOCARDIUM] for body in bodies]
    assert min(myocardium) < 1.5 and max(myocardium) > 6
    assert {body.sex for body in bodies} == {"F", "M"}


def test_numbers_and_seeds_name_patients(patient: PhantomPatient) -> None:
    again, second, other_seed = phantom_patient(1, 0), phantom_patient(2, 0), phantom_patient(1, 1)
    np.testing.assert_array_equal(again.pet.array, patient.pet.array)
    np.testing.assert_array_equal(again.ct.array, patient.ct.array)
    assert len({x.anatomy.weight_kg for x in (patient, second, other_seed)}) == 3
    assert len({x.key for x in (again, second, other_seed)}) == 3


def test_another_matrix_is_another_scan_of_the_same_patient(patient: PhantomPatient) -> None:
    coarse = phantom_patient(1, 0, PhantomSettings(ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=50, pet_pixel_mm=8.2))
    assert coarse.anatomy == patient.anatomy
    assert coarse.ct.array.shape == (40, 64, 64) and coarse.pet.array.shape == (40, 50, 50)
    assert coarse.key != patient.key


def test_slices_of_both_scans_match_without_an_offset(patient: PhantomPatient) -> None:
    apart = phantom_patient(1, 0, PhantomSettings(pet_slice_offset_mm=1.5))
    for scanned, offset in ((patient, 0.0), (apart, 1.5)):
        ct_mm, pet_mm = scanned.ct.geometry.slice_positions_mm(), scanned.pet.geometry.slice_positions_mm()
        np.testing.assert_allclose(pet_mm - ct_mm, offset, atol=1e-3)
    assert patient.ct.geometry.spacing_mm == pytest.approx((3.27, 1.6, 1.6))
    assert patient.pet.geometry.spacing_mm == pytest.approx((3.27, 4.1, 4.1))


def test_the_body_lies_within_both_fields_of_view(patient: PhantomPatient) -> None:
    body = patient.tissues_on(patient.pet.geometry) > Tissue.TABLE
    assert not (body[:, 0].any() or body[:, -1].any() or body[:, :, 0].any() or body[:, :, -1].any())


def test_shorter_scans_show_the_same_slices_of_a_longer_one() -> None:
    quiet = PhantomSettings(pet_noise_suv=0, ct_noise_hu=0)
    long, short = phantom_patient(2, 0, quiet), phantom_patient(2, 0, replace(quiet, slices=20))
    np.testing.assert_array_equal(short.ct.array, long.ct.array[10:30])
    np.testing.assert_allclose(short.pet.array, long.pet.array[10:30], atol=1e-5)


def test_blur_has_the_requested_width() -> None:
    line = np.zeros((1, 1, 41), dtype=np.float32)
    line[0, 0, 20] = 1
    blurred = blur(line, (0, 0, 2.0))[0, 0]
    assert blurred.sum() == pytest.approx(1, abs=1e-6)
    variance = (blurred * (np.arange(41) - 20.0) ** 2).sum()
    assert np.sqrt(variance) == pytest.approx(2, rel=0.03)  # cut at three sigmas


def test_smooth_noise_has_unit_deviation_and_neighbours_agree() -> None:
    noise = smooth_noise(np.random.default_rng(0), (40, 80, 80), (0.8, 0.8, 0.8))[3:-3, 3:-3, 3:-3]
    assert noise.std() == pytest.approx(1, rel=0.03)
    neighbours = np.corrcoef(noise[:, :, 1:].ravel(), noise[:, :, :-1].ravel())[0, 1]
    # two Gaussians of sigma 0.8, one voxel apart: exp(-1 / (4 x 0.64)) = 0.68
    assert neighbours == pytest.approx(0.68, abs=0.03)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"slices": 1}, "slices is 1, expected 2 to 1000"),
        ({"slices": 10.5}, "slices is 10.5, expected an integer"),
        ({"ct_matrix": 8}, "ct_matrix is 8, expected 32 to 1024"),
        ({"pet_pixel_mm": 0.0}, "pet_pixel_mm is 0.0, expected 0.5 to 40"),
        ({"psf_fwhm_mm": -1.0}, "psf_fwhm_mm is -1.0, expected 0 to 30"),
        ({"slice_spacing_mm": float("nan")}, "slice_spacing_mm is nan, expected 0.1 to 20"),
        ({"pet_centre_mm": (0.0,)}, "pet_centre_mm is (0.0,), expected two lengths in mm"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        PhantomSettings(**wrong)


@pytest.mark.parametrize(
    ("number", "seed", "message"), [(0, 0, "1 to 9999"), (10000, 0, "1 to 9999"), (1, -1, "0 or above")]
)
def test_impossible_patients_are_refused(number: int, seed: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        phantom_patient(number, seed)
