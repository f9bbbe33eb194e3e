"""The percentile reported for a synthetic PET, computed without a copy of the PET."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ct2pet_app.inference.result_metadata import high_percentile


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 6), st.integers(1, 7), st.booleans())
def test_it_is_numpys_bit_for_bit(seed: int, slices: int, rows: int, columns: int, has_ties: bool) -> None:
    array = np.random.default_rng(seed).gamma(2.0, size=(slices, rows, columns)).astype(np.float32)
    array = np.round(array) if has_ties else array
    for percent in (99, 50, 100, 97.3):
        assert high_percentile(array, percent) == float(np.percentile(array, percent))


def test_a_tie_of_all_voxels_is_that_value() -> None:
    assert high_percentile(np.full((3, 4, 5), 2.5, np.float32), 99) == pytest.approx(2.5, abs=0)
