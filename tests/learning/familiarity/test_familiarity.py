"""Whether a CT resembles the training CTs: profiles, limits from patients left out, and shifts that are flagged."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lib.errors import CheckpointError
from lib.learning.familiarity.assessment import Familiarity, Level, assess
from lib.learning.familiarity.profile import CTProfile, HeaderFacts, enclosed, examined_slices, profile_of
from lib.learning.familiarity.reference import MIN_PATIENTS, Reference, fit_reference
from lib.phantom.patient import PhantomSettings, phantom_patient
from lib.types import FloatArray
from tests.learning.familiarity.limbs import GE, PATIENTS, PIXEL_MM, limb, limb_reference, profile


@pytest.fixture(scope="module")
def reference() -> Reference:
    return limb_reference()


def enhanced(ct_hu: FloatArray) -> FloatArray:
    ct = ct_hu.copy()
    ct[:, 22:25, 10:13] = 250  # a vessel of 9 mm in the muscle, far from the bone
    return ct


def with_lungs(ct_hu: FloatArray) -> FloatArray:
    ct = ct_hu.copy()
    ct[:, 16:32, 12:36] = -800
    return ct


SHIFTS: dict[str, tuple[Callable[[FloatArray], CTProfile], Level, str]] = {
    "100 HU too high": (lambda ct: profile(ct + 100), Level.UNLIKE, "most frequent HU of soft tissue 1"),
    "100 HU too low": (lambda ct: profile(ct - 100), Level.UNLIKE, "distribution of HU"),
    "whole-body field of view": (
        lambda ct: profile(np.pad(ct, ((0, 0), (60, 60), (60, 60)), constant_values=-1000)),
        Level.UNLIKE,
        "field of view, width 504 mm (training CTs: 144 mm)",
    ),
    "whole-body length": (lambda ct: profile(np.tile(ct, (30, 1, 1))), Level.UNLIKE, "length along the body 1177 mm"),
    "lungs": (lambda ct: profile(with_lungs(ct)), Level.UNLIKE, "air and lung inside the body"),
    "contrast-enhanced vessels": (lambda ct: profile(enhanced(ct)), Level.UNLIKE, "contrast-enhanced vessels 100 %"),
    "metal": (lambda ct: profile(ct, metal_ml=40.0), Level.UNLIKE, "metal, above 2500 HU 40.0 mL"),
    "other side of the body": (lambda ct: profile(ct[:, :, ::-1]), Level.UNLIKE, "left-right asymmetry"),
    "thick slices": (
        lambda ct: profile_of(
            ct, spacing_mm=(6.5, PIXEL_MM, PIXEL_MM), length_mm=39, facts=GE, pixel_mm=0.98, metal_ml=0
        ),
        Level.UNUSUAL,
        "slice spacing 6.50 mm (training CTs: 3.27 mm)",
    ),
    "another scanner": (
        lambda ct: profile(ct, facts=HeaderFacts(ct_scanner="Philips Brilliance16")),
        Level.UNUSUAL,
        "scanner Philips Brilliance16 (training CTs: GE Discovery ST)",
    ),
    "a contrast agent in the header": (
        lambda ct: profile(ct, facts=HeaderFacts(contrast_agent="yes")),
        Level.UNUSUAL,
        "names a contrast agent",
    ),
}


@pytest.mark.parametrize("name", SHIFTS)
def test_a_shift_is_flagged_with_its_reason(reference: Reference, name: str) -> None:
    shifted, level, reason = SHIFTS[name]
    found = assess(shifted(limb(100)), reference)
    assert found.level is level, found
    assert any(reason in text for text in found.reasons), found.reasons
    assert found.sentence.startswith("This CT is unlike" if level is Level.UNLIKE else "This CT is unusual")
    assert found.warning == found.sentence


def test_a_mirrored_chest_is_unlike_and_a_mirrored_limb_may_be_the_other_one() -> None:
    """The heart and the liver are on one side; of limbs, training has both."""
    scan = PhantomSettings(slices=10, ct_matrix=48, ct_pixel_mm=8.5, pet_matrix=48, pet_pixel_mm=8.5)
    chests = [phantom_patient(number, 0, scan).ct.array for number in range(1, 14)]
    reference = fit_reference([(f"P{n}", profile(ct, pixel_mm=8.5)) for n, ct in enumerate(chests[:12])])
    assert assess(profile(chests[12], pixel_mm=8.5), reference).level is not Level.UNLIKE
    mirrored = assess(profile(chests[12][:, :, ::-1], pixel_mm=8.5), reference)
    assert mirrored.level is Level.UNLIKE and any("left-right asymmetry" in text for text in mirrored.reasons)

    limbs = [(f"P{n}", profile(limb(n)[:, :, :: 1 if n % 2 else -1])) for n in range(PATIENTS)]
    assert assess(profile(limb(100)[:, :, ::-1]), fit_reference(limbs)).level is Level.FAMILIAR


def test_few_new_patients_are_flagged(reference: Reference) -> None:
    assert reference.flagged <= 0.05 * PATIENTS
    found = [assess(profile(limb(number)), reference).level for number in range(200, 240)]
    assert found.count(Level.FAMILIAR) >= 38 and Level.UNLIKE not in found


def test_what_a_header_lacks_is_not_judged(reference: Reference) -> None:
    found = assess(profile(limb(100), facts=HeaderFacts(), pixel_mm=PIXEL_MM, metal_ml=None), reference)
    assert (found.level, found.reasons, found.sentence, found.warning) == (Level.FAMILIAR, (), "", "")


def test_a_value_is_not_new_where_every_patient_has_another() -> None:
    """By Good and Turing: where each patient has an own scanner, the next one has, too."""
    reference = fit_reference(
        [(f"P{n}", profile(limb(n), facts=HeaderFacts(ct_scanner=f"scanner {n}"))) for n in range(PATIENTS)]
    )
    assert assess(profile(limb(100), facts=HeaderFacts(ct_scanner="another")), reference).level is Level.FAMILIAR


def test_too_few_patients_judge_nothing() -> None:
    few = fit_reference([(f"P{number % 7}", profile(limb(number))) for number in range(20)])
    assert (few.patients, few.judges, MIN_PATIENTS) == (7, False, 8)
    found = assess(profile(limb(100) + 500), few)
    assert found.level is Level.UNKNOWN and found.warning == ""
    assert found.sentence.endswith("unknown: trained on 7 patients, too few to judge (at least 8).")


def test_a_reference_survives_the_model_card(reference: Reference) -> None:
    text = json.dumps(reference.to_json(), allow_nan=False)
    assert len(text) < 20_000 and "P1" not in text
    again = Reference.from_json(json.loads(text))
    shifted = profile(limb(100) + 100)
    assert assess(shifted, again) == assess(shifted, reference)


@pytest.mark.parametrize("damage", [{"template": [1.0]}, {"ranges": {"length_mm": "long"}}, {"unknown": 1}])
def test_a_damaged_reference_is_refused(reference: Reference, damage: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="invalid model card: familiarity"):
        Reference.from_json({**json.loads(json.dumps(reference.to_json())), **damage})


def test_the_features_of_a_network_are_judged_too() -> None:
    random = np.random.default_rng(0)

    def described(number: int, shift: float) -> CTProfile:
        features = random.normal(shift, 1, (8, 5)).astype(np.float32)
        return profile(limb(number), features=features)

    reference = fit_reference([(f"P{number}", described(number, 0)) for number in range(PATIENTS)])
    assert assess(described(100, 0), reference).level is Level.FAMILIAR
    found = assess(described(100, 20), reference)
    assert found.level is Level.UNLIKE and "the network's own features differ" in found.reasons[0]


def test_lungs_and_gas_are_enclosed_and_air_between_legs_is_not() -> None:
    mask = np.zeros((1, 9, 9), np.bool_)
    mask[0, 2:7, 2:7] = True
    mask[0, 4, 4] = False
    assert enclosed(mask)[0, 4, 4]
    legs = np.zeros((1, 9, 9), np.bool_)
    legs[0, 2:7, 1:3] = legs[0, 2:7, 6:8] = True
    np.testing.assert_array_equal(enclosed(legs), legs)


def test_evenly_spaced_slices_are_examined() -> None:
    assert examined_slices([4, 6, 8]) == [4, 6, 8]
    chosen = examined_slices(range(500))
    assert (len(chosen), chosen[0], chosen[-1]) == (48, 0, 499)
    assert set(np.diff(chosen)) <= {10, 11}


def test_a_familiar_ct_has_no_reason() -> None:
    assert Familiarity(Level.FAMILIAR).sentence == ""
