"""Promised against reached coverage: shares of one volume, means over patients, and their description."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lib.evaluation.interval_coverage import (
    HOT_VOXELS,
    coverage_as_json,
    coverage_cells,
    coverage_sentence,
    interval_coverage,
    interval_shares,
)
from lib.evaluation.slice_metrics import AlignedVolumes
from lib.imaging.geometry import Geometry
from tests.learning.conftest import make_card
from tests.learning.known_intervals import known_intervals

CARD = make_card(intervals=known_intervals().to_json())
VOXEL = "SUV of a voxel"


def volumes(real_root: list[float], *, tumour: bool = False) -> AlignedVolumes:
    """Synthetic SUV 4 everywhere; the square root of the real SUV by slice."""
    shape = (len(real_root), 20, 20)
    real = np.square(np.broadcast_to(np.array(real_root).reshape(-1, 1, 1), shape)).astype(np.float32)
    body, region = np.ones(shape, np.bool_), np.zeros(shape, np.bool_)
    region[0, 5:8, 5:8] = tumour
    geometry = Geometry(shape, np.diag([4.0, 4.0, 4.0, 1.0]))
    synthetic = np.full(shape, 4, np.float32)
    return AlignedVolumes(synthetic, synthetic, real, body, body, geometry, tumour=region if tumour else None)


def test_shares_of_one_volume_computed_by_hand() -> None:
    # residuals 0.05, 0.15, 0.25 and 0.35; the intervals reach 0.1, 0.2, 0.3 and 0.4
    shares = interval_shares(volumes([2.05, 1.85, 1.75, 2.35]), CARD, "A")
    assert shares is not None
    np.testing.assert_allclose(shares[VOXEL], [0.25, 0.5, 0.75, 1.0], atol=1e-6)
    # 1.85 and 1.75 squared are above 2.5, too
    np.testing.assert_allclose(shares[HOT_VOXELS], shares[VOXEL])
    assert "SUVmean of a lesion" not in shares


def test_a_lesion_counts_once() -> None:
    shares = interval_shares(volumes([2.15, 2.0, 2.0], tumour=True), CARD, "A")
    assert shares is not None
    np.testing.assert_array_equal(shares["SUVmean of a lesion"], [0, 1, 1, 1])
    np.testing.assert_array_equal(shares["SUVmax of a lesion"], [0, 1, 1, 1])


@pytest.mark.parametrize("intervals", [None, {"scale": "stars"}])
def test_a_card_without_valid_intervals_has_no_coverage(intervals: dict[str, Any] | None) -> None:
    assert interval_shares(volumes([2.0]), make_card(intervals=intervals), "A") is None
    assert interval_coverage([("A", None)]) == ()
    assert coverage_as_json(()) is None
    assert "no calibrated intervals" in coverage_sentence((), CARD)


def test_patients_count_equally_and_their_pairs_as_their_mean() -> None:
    def shares(share: float) -> dict[str, Any]:
        return {VOXEL: np.array([share, share, share, np.nan])}

    (row,) = interval_coverage([("A", shares(1.0)), ("A", shares(0.5)), ("B", shares(0.95))])
    assert (row.name, row.patients) == (VOXEL, 2)
    assert row.reached[:3] == (pytest.approx(0.85),) * 3 and row.reached[3] is None
    assert row.below == (0.0, 0.5, 0.5, None)  # A has 0.75, B 0.95
    assert coverage_cells([row]) == [[VOXEL, "2", "85 %", "85 %", "85 %", "–", "50 %"]]
    assert json.dumps(coverage_as_json([row]), allow_nan=False)


def test_the_sentence_says_how_many_patients_the_calibration_had() -> None:
    rows = interval_coverage([("A", interval_shares(volumes([2.0]), CARD, "A"))])
    assert "calibrated on 20 patients" in coverage_sentence(rows, CARD)
    few = replace(CARD, intervals=known_intervals(5).to_json())
    rows = interval_coverage([("A", interval_shares(volumes([2.0]), few, "A"))])
    assert rows[0].reached == (1.0, 1.0, None, None)
