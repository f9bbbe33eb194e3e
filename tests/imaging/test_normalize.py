"""Between physical units and the unit range."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lib.errors import RecipeError
from lib.imaging.normalize import Windows, denormalize_ct, denormalize_pet, normalize_ct, normalize_pet

SUV = arrays(np.float32, (2, 3, 4), elements=st.floats(0, 60, width=32))
HU_INSIDE = arrays(np.float32, (2, 3, 4), elements=st.floats(-1000, 1000, width=32))


@given(SUV, st.sampled_from(["linear", "sqrt"]))
def test_suv_survives_there_and_back(suv_bw: np.ndarray, curve: str) -> None:
    windows = Windows(pet_curve=curve)  # type: ignore[arg-type]
    np.testing.assert_allclose(denormalize_pet(normalize_pet(suv_bw, windows), windows), suv_bw, rtol=1e-5, atol=1e-6)


@given(HU_INSIDE)
def test_hu_inside_the_window_survives_there_and_back(ct_hu: np.ndarray) -> None:
    np.testing.assert_allclose(denormalize_ct(normalize_ct(ct_hu, Windows()), Windows()), ct_hu, atol=2e-4)


@pytest.mark.parametrize(("hu", "unit"), [(-3024, 0.0), (-1000, 0.0), (0, 0.5), (1000, 1.0), (3000, 1.0), (-500, 0.25)])
def test_ct_window(hu: float, unit: float) -> None:
    assert normalize_ct(np.full((1, 1, 1), hu, np.float32), Windows())[0, 0, 0] == pytest.approx(unit)


@pytest.mark.parametrize(("suv", "unit"), [(0, 0), (5, 0.5), (20, 1), (80, 2), (-1, 0)])
def test_sqrt_curve_clips_nothing_above(suv: float, unit: float) -> None:
    assert normalize_pet(np.full((1, 1, 1), suv, np.float32), Windows())[0, 0, 0] == pytest.approx(unit)


def test_eight_bits_round_to_levels_and_clip() -> None:
    windows = Windows(bits=8, pet_curve="linear", pet_high_suv=10)
    unit = normalize_pet(np.array([[[0.0, 1.0, 10.0, 25.0]]], np.float32), windows)
    # SUV 1 of 10 is level 25.5, which rounds to the even 26
    np.testing.assert_allclose(unit * 255, [[[0, 26, 255, 255]]], atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ct_low_hu": 5.0, "ct_high_hu": 5.0}, "must be below"),
        ({"pet_high_suv": 0.0}, "must be above 0"),
        ({"pet_curve": "log"}, "must be linear or sqrt"),
        ({"bits": 12}, "8 .* or 16"),
    ],
)
def test_impossible_windows_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Windows(**settings)  # type: ignore[arg-type]
