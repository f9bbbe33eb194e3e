"""The shift between PET and CT: known shifts of phantoms are measured within 2 mm; without structure there is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lib.dicom.read.volume import read_ct, read_pet
from lib.dicom.scan.scan import scan_folder
from lib.imaging.geometry import Geometry
from lib.imaging.grid import Grid
from lib.imaging.normalize import Windows
from lib.imaging.volume import Unit, Volume
from lib.pairing.pairs import PairedSeries, pair_series
from lib.pairing.prepare import prepare_pairs
from lib.pairing.prepared import Preparation, PreparedSet
from lib.pairing.quality_checks import cached_checks
from lib.pairing.quality_checks.alignment import Shift, corrected, diaphragm_slices, estimate_shift, shift_from_json
from lib.pairing.quality_checks.cached_checks import check_pairs
from lib.pairing.quality_checks.check_cache import CheckCache
from lib.pairing.quality_checks.plausibility import PairCheck, check_pair
from lib.phantom.dicom import write_study
from lib.phantom.generate import PhantomPatient, PhantomSettings, phantom_patient, write_phantoms
from lib.phantom.scanner import scan_pet
from lib.phantom.tissues import Tissue

TINY = PhantomSettings(slices=12, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)


@pytest.fixture(scope="module")
def chest() -> PhantomPatient:
    """A chest whose right dome of the diaphragm lies within the scan; PET 4.1 mm pixels, slices 3.27 mm apart."""
    return phantom_patient(3)


def moved(pet: Volume, x: float, y: float, z: float) -> Volume:
    affine = pet.geometry.affine.copy()
    affine[:3, 3] += (x, y, z)
    return replace(pet, geometry=Geometry(pet.geometry.shape, affine))


def breathing(patient: PhantomPatient, up_mm: float) -> Volume:
    """Return a PET during which liver and spleen lay higher than in the CT."""
    shapes = tuple(
        replace(solid, centre_mm=(*solid.centre_mm[:2], solid.centre_mm[2] + up_mm))
        if solid.tissue in (Tissue.LIVER, Tissue.SPLEEN)
        else solid
        for solid in patient.anatomy.shapes
    )
    anatomy = replace(patient.anatomy, shapes=shapes)
    rng = np.random.default_rng(0)
    array = scan_pet(
        anatomy, patient.pet.geometry, origin_mm=patient.origin_mm, psf_fwhm_mm=6.0, noise_suv=0.06, rng=rng
    )
    return replace(patient.pet, array=array)


@pytest.mark.parametrize(
    "shift_mm", [(0, 0, 0), (5, 0, 0), (0, -10, 0), (0, 0, 20), (10, -5, -20)], ids=lambda mm: "_".join(map(str, mm))
)
def test_a_known_shift_is_measured(chest: PhantomPatient, shift_mm: tuple[float, float, float]) -> None:
    found = estimate_shift(chest.ct, moved(chest.pet, *shift_mm))
    assert found.body_mm == pytest.approx(shift_mm, abs=2.0)
    assert max(sd for sd in found.sd_mm if sd is not None) <= 2.0 and found.note == ""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "mm"), [(1, 20), (2, 5), (4, 10)])
def test_shifts_of_other_chests_are_measured(number: int, mm: float) -> None:
    patient = phantom_patient(number)
    for shift_mm in ((0, 0, -mm), (mm, -mm, mm)):
        assert estimate_shift(patient.ct, moved(patient.pet, *shift_mm)).body_mm == pytest.approx(shift_mm, abs=2.0)


def test_the_same_volumes_give_the_same_shift(chest: PhantomPatient) -> None:
    pet = moved(chest.pet, 0, 0, 10)
    assert estimate_shift(chest.ct, pet) == estimate_shift(chest.ct, pet)


@pytest.mark.parametrize("up_mm", [0, 20, -10])
def test_the_diaphragm_is_measured_where_lungs_are_seen(chest: PhantomPatient, up_mm: float) -> None:
    found = estimate_shift(chest.ct, breathing(chest, up_mm))
    assert found.diaphragm_mm == pytest.approx(up_mm, abs=2.0)
    assert found.body_mm[:2] == pytest.approx((0, 0), abs=2.0)  # the chest's wall stays


def test_slices_of_the_diaphragm_are_those_between_both_domes(chest: PhantomPatient) -> None:
    shift = Shift((0.0, 0.0, 0.0), (0.1, 0.1, 0.1), diaphragm_mm=12.0, dome_z_mm=(-110.0, -100.0))
    geometry = Geometry.from_dicom(
        (40, 4, 4),
        first_position_mm=(0, 0, -150),
        orientation=(1, 0, 0, 0, 1, 0),
        pixel_spacing_mm=(4, 4),
        slice_spacing_mm=3,
    )
    # -150 + 3 k from -110 (k = 13.3) to -100 + 12 = -88 (k = 20.7)
    assert diaphragm_slices(shift, geometry, range(40)) == tuple(range(14, 21))
    assert diaphragm_slices(shift, geometry, range(0, 40, 2)) == (7, 8, 9, 10)  # counted among those chosen
    assert diaphragm_slices(Shift(), geometry, range(40)) == ()


def leg(*, tapers: bool) -> tuple[Volume, Volume]:
    """A limb along z, 16 cm of it, with no structure along its length, or thinner towards the foot."""
    geometry = Geometry.from_dicom(
        (40, 50, 50),
        first_position_mm=(0, 0, 0),
        orientation=(1, 0, 0, 0, 1, 0),
        pixel_spacing_mm=(4, 4),
        slice_spacing_mm=4,
    )
    k, r, c = np.indices(geometry.shape)
    radius = np.where(tapers, 12 + k / 8, 15.0)
    inside = np.hypot(r - 24.5, (c - 24.5) * 1.2) < radius
    ct = np.where(inside, 40, -1000).astype(np.float32)
    noise = np.random.default_rng(0).random(geometry.shape, np.float32) * np.float32(0.2)
    pet = np.where(inside, np.float32(0.7), np.float32(0.0)) + noise
    return Volume(ct, geometry, Unit.HU), Volume(pet, geometry, Unit.SUV_BW)


@pytest.mark.parametrize("tapers", [False, True])
def test_a_limb_without_structure_along_its_length_is_not_measured_along_it(tapers: bool) -> None:
    ct, pet = leg(tapers=tapers)
    found = estimate_shift(ct, moved(pet, 5, -5, 10))
    x, y, z = found.body_mm
    assert (x, y) == (pytest.approx(5, abs=2), pytest.approx(-5, abs=2))
    assert z is None and found.diaphragm_mm is None
    assert "cannot be measured along z" in found.note


def test_a_pet_elsewhere_is_not_measured(chest: PhantomPatient) -> None:
    found = estimate_shift(chest.ct, moved(chest.pet, 0, 0, 900))
    assert found.body_mm == (None, None, None)
    assert found.note == "not measured: the PET covers too little of the body on the CT"


def test_a_pet_is_moved_back_along_what_was_measured(chest: PhantomPatient) -> None:
    shift = Shift((5.0, None, -3.0), (0.1, 4.0, 0.1))
    back = corrected(moved(chest.pet, 5, 7, -3), shift)
    assert np.allclose(np.subtract(back.geometry.origin_mm, chest.pet.geometry.origin_mm), (0, 7, 0), atol=1e-9)


@pytest.mark.parametrize(
    ("shift", "is_off"),
    [
        (Shift((10.0, 0.0, 0.0)), False),
        (Shift((10.1, 0.0, 0.0)), True),
        (Shift((6.0, 6.0, 6.0)), True),  # 10.4 mm long
        (Shift((6.0, None, 6.0)), False),  # 8.5 mm of what was measured
        (Shift((0.0, 0.0, 0.0), diaphragm_mm=-10.0), False),
        (Shift((0.0, 0.0, 0.0), diaphragm_mm=-10.5), True),
        (Shift(), False),
    ],
)
def test_a_shift_above_a_limit(shift: Shift, is_off: bool) -> None:
    assert shift.exceeds(10.0) == is_off
    assert not shift.exceeds(0.0)  # no limit


def test_a_shift_as_json_and_text() -> None:
    shift = Shift((1.2, None, -3.0), (0.1, 2.4, 0.3), -4.5, "cannot be measured along y", (-120.0, -90.5))
    assert shift_from_json(shift.as_json()) == shift
    assert shift.in_words() == "x +1.2 ± 0.1, y not measured, z -3.0 ± 0.3, diaphragm -4.5"
    assert shift_from_json({}) == Shift() and Shift().in_words() == "not measured"


@pytest.fixture(scope="module")
def paired(tmp_path_factory: pytest.TempPathFactory) -> PairedSeries:
    folder = tmp_path_factory.mktemp("study")
    write_phantoms(folder, patients=1, settings=TINY)
    return pair_series(scan_folder(folder)).pairs[0]


def test_a_pair_is_measured_once(paired: PairedSeries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def counted(one: PairedSeries) -> PairCheck:
        measured.append(one.pair.ct.uid)
        return check_pair(one)

    monkeypatch.setattr(cached_checks, "check_pair", counted)
    first = check_pairs([paired], CheckCache(tmp_path / "checks.sqlite"))
    again = check_pairs([paired], CheckCache(tmp_path / "checks.sqlite"))  # another process
    assert first == again and len(measured) == 1
    assert first[0].shift != Shift()


@pytest.mark.slow
def test_real_pairs_are_aligned_and_an_added_shift_is_found(sts_folder: Path) -> None:
    """Three limbs and trunks; docs/decisions/0026 has all 36."""
    pairs = {one.pair.ct.patient_id: one for one in pair_series(scan_folder(sts_folder)).pairs}
    for patient_id in ("STS_008", "STS_011", "STS_028"):
        ct, pet = read_ct(pairs[patient_id].pair.ct), read_pet(pairs[patient_id].pair.pet)
        as_it_is, off = estimate_shift(ct, pet), estimate_shift(ct, moved(pet, 10, -10, 10))
        for before, after, mm in zip(as_it_is.body_mm, off.body_mm, (10, -10, 10), strict=True):
            assert before is None or abs(before) < 5
            assert before is None or after is None or after - before == pytest.approx(mm, abs=2)
        assert as_it_is.body_mm[0] is not None


def test_prepared_arrays_keep_the_shift_and_can_be_corrected(tmp_path: Path) -> None:
    """The PET of phantom 2 says that it lies 20 mm to the left; moved back, its arrays are nearly the true ones."""
    patient = phantom_patient(2, 0, PhantomSettings(ct_matrix=100, ct_pixel_mm=4.1))
    write_study(patient, tmp_path / "true")
    write_study(replace(patient, pet=moved(patient.pet, 20, 0, 0)), tmp_path / "off")
    grid, windows = Grid(pixel_mm=4.1), Windows()
    sets = {}
    for name, folder, fix in (("as it is", "true", False), ("wrong", "off", False), ("mended", "off", True)):
        pairs = pair_series(scan_folder(tmp_path / folder)).pairs
        sets[name] = prepare_pairs(pairs, tmp_path / name, preparation=Preparation(grid, windows, fix)).prepared
    assert PreparedSet.open(tmp_path / "mended").preparation.correct_shift
    shifts = {name: of.pairs[0].shift_mm[0] for name, of in sets.items()}
    assert shifts == {name: pytest.approx(mm, abs=2) for name, mm in (("as it is", 0), ("wrong", 20), ("mended", 20))}
    assert [of.pairs[0].is_corrected for of in sets.values()] == [False, False, True]
    assert len(sets["wrong"].pairs[0].misaligned_slices(limit_mm=10.0)) == 40
    assert sets["mended"].pairs[0].misaligned_slices(limit_mm=10.0) == ()
    suv = {name: of.arrays(of.pairs[0]).suv_bw() for name, of in sets.items()}
    error = {name: float(np.abs(suv[name] - suv["as it is"]).mean()) for name in ("wrong", "mended")}
    assert error["mended"] < error["wrong"] / 8
