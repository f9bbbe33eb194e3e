"""Intervals for voxels, regions and lesions: fit, answers, coverage, and JSON of model cards."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lib.errors import InputError
from lib.metrics.conformal.band import LEVELS
from lib.metrics.conformal.intervals import (
    KINDS,
    Intervals,
    IntervalSample,
    coverage_sentence,
    fit_intervals,
    no_intervals,
    observe,
)

SPACING_MM = (4.0, 4.0, 4.0)
SHAPE = (20, 24, 24)


def sample(patient: int, *, tumour: bool = True) -> IntervalSample:
    """A body of smooth uptake with a hot tumour, which the synthetic PET shows too weakly."""
    rng = np.random.default_rng(patient)
    body = np.zeros(SHAPE, np.bool_)
    body[:, 2:-2, 2:-2] = True
    lesion = np.zeros(SHAPE, np.bool_)
    lesion[8:11, 8:11, 8:11] = tumour
    synthetic = np.where(lesion, 2, rng.gamma(9, 0.1, SHAPE)).astype(np.float32)
    real = synthetic * np.float32(rng.lognormal(0, 0.3)) + np.where(lesion, 3, 0).astype(np.float32)
    return IntervalSample(f"P{patient}", synthetic, real, body, np.ones(SHAPE, np.bool_), lesion, SPACING_MM)


@pytest.fixture(scope="module")
def intervals() -> Intervals:
    found = fit_intervals(sample(patient) for patient in range(10))
    assert found is not None
    return found


def test_every_kind_has_a_band_and_regions_one_for_each_size(intervals: Intervals) -> None:
    assert intervals.patients == 10
    assert [len(intervals.bands[kind]) for kind in KINDS] == [1, 4, 4, 1, 1]
    assert [band.volume_ml for band in intervals.bands["region_max"]] == [(0.5, 2), (2, 8), (8, 30), (30, 150)]


def test_observed_values_of_a_lesion_are_exact() -> None:
    first = sample(0)
    found = observe(first)
    synthetic, real = found["lesion_max", 0]
    assert (synthetic[0], real[0]) == (2.0, first.real_suv[first.tumour].max())
    assert found["lesion_mean", 0].real_suv[0] == pytest.approx(first.real_suv[first.tumour].mean(), rel=1e-6)
    assert ("lesion_mean", 0) not in observe(sample(0, tumour=False))


def test_unmeasured_voxels_do_not_count() -> None:
    whole = sample(0)
    measured = np.ones(SHAPE, np.bool_)
    measured[:10] = False
    real = np.where(measured, whole.real_suv, np.nan).astype(np.float32)
    found = observe(replace(whole, real_suv=real))
    assert all(np.isfinite(one.real_suv).all() for one in found.values())
    assert fit_intervals([replace(whole, measured=~np.ones(SHAPE, np.bool_))]) is None


def test_an_answer_holds_the_prediction_and_says_what_it_rests_on(intervals: Intervals) -> None:
    answer = intervals.interval("region_mean", 1.2, volume_ml=5)
    assert answer.low is not None and answer.high is not None
    assert 0 <= answer.low < 1.2 < answer.high
    assert (answer.level, answer.patients) == (0.9, 10)
    assert answer.sentence == (
        f"Estimated SUVmean 1.2 (90 % interval {answer.low:.1f} to {answer.high:.1f}; calibrated on 10 patients)."
    )


def test_higher_levels_are_wider(intervals: Intervals) -> None:
    answers = [intervals.interval("lesion_max", 2.0, level=level) for level in LEVELS[:3]]
    highs = [answer.high for answer in answers if answer.high is not None]
    assert len(highs) == 3 and highs == sorted(highs)


def test_too_few_patients_are_named(intervals: Intervals) -> None:
    answer = intervals.interval("voxel", 1.0, level=0.95)
    assert (answer.low, answer.high, answer.patients) == (None, None, 10)
    assert answer.sentence == (
        "Too few patients: a 95 % interval for the SUV of a voxel needs 19 patients, the model was calibrated on 10."
    )
    with pytest.raises(InputError, match="needs 19 patients"):
        intervals.voxel_limits(np.ones((1, 2, 2), np.float32), 0.95)


def test_patients_without_a_tumour_do_not_count_for_lesions() -> None:
    found = fit_intervals(sample(patient, tumour=patient < 5) for patient in range(10))
    assert found is not None
    answer = found.interval("lesion_mean", 2.0)
    assert answer.low is None and "needs 9 patients, the model was calibrated on 5" in answer.sentence
    without = fit_intervals(sample(patient, tumour=False) for patient in range(4))
    assert without is not None and "calibrated on 0" in without.interval("lesion_mean", 2.0).sentence


@pytest.mark.parametrize("volume_ml", [0.1, 400.0])
def test_a_size_that_was_not_calibrated_has_no_interval(intervals: Intervals, volume_ml: float) -> None:
    answer = intervals.interval("region_max", 2.0, volume_ml=volume_ml)
    assert answer.low is None and "calibrated are 0.5 to 150 mL" in answer.sentence


def test_a_region_needs_a_volume(intervals: Intervals) -> None:
    with pytest.raises(InputError, match="give the volume in mL"):
        intervals.interval("region_mean", 1.0)


def test_the_order_of_the_patients_does_not_matter(intervals: Intervals) -> None:
    again = fit_intervals(sample(patient) for patient in reversed(range(10)))
    assert again is not None and again.to_json() == intervals.to_json()


def test_two_volumes_of_a_patient_count_as_one_patient() -> None:
    found = fit_intervals([*(sample(patient) for patient in range(4)), replace(sample(9), patient="P0")])
    assert found is not None and found.patients == 4 and found.bands["voxel"][0].patients == 4


def test_the_sentence_says_what_was_reached(intervals: Intervals) -> None:
    sentence = coverage_sentence(intervals, 0.8)
    assert sentence.startswith("80 % intervals, calibrated on 10 patients; among patients held out")
    assert "% for the SUVmean of a lesion" in sentence
    assert "needs 19 patients" in coverage_sentence(intervals, 0.95)
    assert "no calibrated intervals" in no_intervals().sentence


def test_json_round_trip(intervals: Intervals) -> None:
    card = json.loads(json.dumps(intervals.to_json()))
    assert Intervals.from_json(card).to_json() == intervals.to_json()


def test_the_card_names_no_patient(intervals: Intervals) -> None:
    assert "P1" not in json.dumps(intervals.to_json())


@pytest.mark.parametrize(
    "damage",
    [
        {"scale": "SUV"},
        {"patients": "ten"},
        {"levels": [0.9]},
        {"bands": {}},
        {"bands": []},
        {"bands": dict.fromkeys(KINDS, 3)},
        {"bands": {kind: [{}] for kind in KINDS}},
        {"more": 1},
    ],
)
def test_damaged_json_is_refused(intervals: Intervals, damage: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="intervals"):
        Intervals.from_json({**intervals.to_json(), **damage})


def test_shapes_must_agree() -> None:
    with pytest.raises(InputError, match="one shape"):
        replace(sample(0), body=np.ones((1, 2, 3), np.bool_))
