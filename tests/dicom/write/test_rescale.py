"""Storing SUV in 16 bits and reading it back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lib.dicom.write.rescale import StoredSlice, store_slice
from lib.errors import DicomError


def read_back(slice_: StoredSlice) -> np.ndarray:
    return slice_.stored * float(slice_.rescale_slope) + float(slice_.rescale_intercept)


SUV = st.floats(min_value=0, max_value=1e6, width=32, allow_subnormal=False)
ANY = st.floats(min_value=-1e6, max_value=1e6, width=32, allow_subnormal=False)


@given(arrays(np.float32, (4, 5), elements=SUV) | arrays(np.float32, (4, 5), elements=ANY))
def test_rounding_stays_below_a_30000th_of_the_range(suv_bw: np.ndarray) -> None:
    slice_ = store_slice(suv_bw)
    low, high = float(suv_bw.min()), float(suv_bw.max())
    allowed = (high - low) / 30_000 + max(abs(low), abs(high)) * 1e-9  # of a slice of one value
    assert np.abs(read_back(slice_) - suv_bw).max() <= allowed
    assert not float(slice_.rescale_slope).is_integer() and float(slice_.rescale_slope) > 0
    assert max(len(slice_.rescale_slope), len(slice_.rescale_intercept)) <= 16  # a decimal string


@given(arrays(np.float32, (4, 5), elements=SUV) | arrays(np.float32, (4, 5), elements=ANY))
def test_stored_values_are_the_nearest_integers(suv_bw: np.ndarray) -> None:
    slice_ = store_slice(suv_bw)
    exact = (suv_bw.astype(np.float64) - float(slice_.rescale_intercept)) / float(slice_.rescale_slope)
    np.testing.assert_array_equal(slice_.stored, np.clip(np.rint(exact), 0, 65535))


@pytest.mark.parametrize(
    "values",
    [
        [7.7, 7.7],
        [-7.7, -7.7],
        [-6.1035156e-05, -6.1035156e-05],  # 2**-14: eight signs of a decimal point and zeros without an exponent
        [-1.2345678, -1.2345677],  # neighbours in float32
        [1048575.9375, 1048576.0],
        [123456.79, 123456.8],
        [-1e-30, -2e-30],
        [9.999999e-31, 1e-30],
        [1e-38, 2e-38],
        [-1e38, 1e38],  # a range that float32 does not hold
        [0, 1e9],
    ],
)
def test_rounding_error_of_extreme_slices(values: list[float]) -> None:
    suv_bw = np.array([values], np.float32)
    slice_ = store_slice(suv_bw)
    original = suv_bw.astype(np.float64)
    constant = np.abs(original).max() * 1e-9  # below half a step of float32: the same number once it is read
    allowed = np.ptp(original) / 30_000 if np.ptp(original) else constant
    assert np.abs(read_back(slice_) - original).max() < allowed
    assert max(len(slice_.rescale_slope), len(slice_.rescale_intercept)) <= 16  # a decimal string


@pytest.mark.parametrize(
    ("values", "slope", "intercept", "stored"),
    [
        ([0.0, 6.5535], "0.0001", "0", [0, 65535]),  # 6.5535 / 65535
        ([0.0, 0.0], "0.0001", "0", [0, 0]),
        ([2.5, 2.5], "3.814755474e-05", "0", [65535, 65535]),  # 2.5 / 65535
        ([2.0, 2.1], "1.525901577e-06", "2", [0, 65535]),  # no air: 0.1 / 65535 above 2
        ([-1.0, 1.0], "3.051804379e-05", "-1", [0, 65535]),  # 2 / 65535 above -1
    ],
)
def test_intercept_is_0_if_16_bits_suffice(values: list[float], slope: str, intercept: str, stored: list[int]) -> None:
    slice_ = store_slice(np.array([values], np.float32))
    assert float(slice_.rescale_slope) == pytest.approx(float(slope), rel=1e-6)
    assert slice_.rescale_intercept == intercept
    assert slice_.stored.tolist() == [stored]


def test_slope_is_never_an_integer() -> None:
    slice_ = store_slice(np.array([[0, 65535, 131070]], np.float32))  # the slope would be 2
    assert float(slice_.rescale_slope) == pytest.approx(2, rel=1e-5)
    assert not float(slice_.rescale_slope).is_integer()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_are_refused(value: float) -> None:
    with pytest.raises(DicomError, match="NaN or infinite"):
        store_slice(np.array([[1, value]], np.float32))
