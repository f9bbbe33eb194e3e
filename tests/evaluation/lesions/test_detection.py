"""Found, missed and fabricated lesions, contours, and the free-response curve, counted by hand."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lib.evaluation.lesions.components import Lesion
from lib.evaluation.lesions.detection import CURVE_THRESHOLDS_SUV, OperatingPoint, pooled_curve
from lib.evaluation.lesions.patient import measure_fixed_lesions, measure_lesions
from lib.evaluation.lesions.summary import lesion_sentence, write_lesions
from lib.evaluation.slice_metrics import AlignedVolumes
from lib.imaging.geometry import Geometry
from lib.metrics.criteria import LESION_METRICS, METHODS
from lib.metrics.verdict import judge_patients

SHAPE = (3, 12, 12)


def volumes() -> AlignedVolumes:
    """Background 1 SUV, voxels of 1 mL. Real: spots of 2 voxels at rows 1, 4 and 7. Synthetic: rows 4, 7 and 10."""
    real, synthetic = np.ones(SHAPE, np.float32), np.ones(SHAPE, np.float32)
    real[1, 1, 1:3], real[1, 4, 1:3], real[1, 7, 1:3] = (4, 3), (8, 6), (20, 4)
    synthetic[1, 4, 2:4], synthetic[1, 7, 1:3], synthetic[1, 10, 1:4] = (5, 5), (10, 9), (3, 4, 3)
    geometry = Geometry.from_dicom(
        SHAPE, first_position_mm=(0, 0, 0), orientation=(1, 0, 0, 0, 1, 0), pixel_spacing_mm=(10, 10),
        slice_spacing_mm=10,
    )  # fmt: skip
    inside = np.ones(SHAPE, bool)
    return AlignedVolumes(np.zeros(SHAPE, np.float32), synthetic, real, inside, inside, geometry)


def test_lesions_above_a_fixed_threshold() -> None:
    found = measure_fixed_lesions(volumes(), {"model": volumes().synthetic_suv})["model"]
    assert found.found == (Lesion(2, 8), Lesion(2, 20))
    assert found.missed == (Lesion(2, 4),)
    assert found.fabricated == (Lesion(3, 4),)
    assert found.metrics("fixed") == {
        "lesion_sensitivity_fixed": pytest.approx(2 / 3), "lesions_found_fixed": 2, "lesions_missed_fixed": 1,
        "lesions_fabricated_fixed": 1, "lesions_fabricated_fixed_ml": 3,
    }  # fmt: skip


def test_lesions_at_41_percent_without_contours() -> None:
    # of the spot of 20 and 4, one voxel remains; the others keep both voxels
    relative = measure_lesions(volumes(), {"model": volumes().synthetic_suv})["model"].relative
    assert relative.found == (Lesion(2, 8), Lesion(1, 20))
    assert (relative.missed, relative.fabricated) == ((Lesion(2, 4),), (Lesion(3, 4),))


def test_with_contours_the_real_lesions_are_the_tumours_and_organs_cannot_be_fabricated() -> None:
    region = np.zeros(SHAPE, bool)
    region[1, 1, :6] = True  # the missed one; the tumour's background of 1 SUV is below 41 % of 4
    contoured = replace(volumes(), regions=(("GTV", region),))
    lesions = measure_lesions(contoured, {"model": contoured.synthetic_suv, "zero": np.zeros(SHAPE, np.float32)})
    relative = lesions["model"].relative
    assert (relative.found, relative.missed) == ((), (Lesion(2, 4),))
    assert relative.fabricated == (Lesion(3, 4),)  # those on the other two real spots are not
    assert lesions["model"].fixed.found == (Lesion(2, 8), Lesion(2, 20))
    assert (lesions["zero"].relative.missed, lesions["zero"].relative.fabricated) == ((Lesion(2, 4),), ())


def test_contours_of_a_tumour_in_both_pets() -> None:
    region = np.zeros(SHAPE, bool)
    region[1, 4, :6] = True  # real 8 and 6 at columns 1 and 2; synthetic 5 and 5 at columns 2 and 3
    contoured = replace(volumes(), regions=(("GTV", region),))
    lesions = measure_lesions(contoured, {"model": contoured.synthetic_suv, "zero": np.zeros(SHAPE, np.float32)})
    (contours,) = lesions["model"].contours
    assert (contours.region, contours.relative.dice, contours.relative.real_ml) == ("GTV", 0.5, 2)
    assert lesions["model"].metrics()["tumour_volume_error_fixed_ml"] == 0
    (nothing,) = lesions["zero"].contours
    assert (nothing.relative.dice, nothing.fixed.synthetic_ml) == (0, 0)
    json.dumps(lesions["model"].as_json(), allow_nan=False)


def test_without_contours_their_metrics_are_undefined_and_all_names_are_there() -> None:
    metrics = measure_lesions(volumes(), {"model": volumes().synthetic_suv})["model"].metrics()
    assert set(metrics) == {metric.name for metric in LESION_METRICS}
    assert math.isnan(metrics["tumour_dice_fixed"])


def test_a_perfect_pet_misses_and_fabricates_nothing() -> None:
    lesions = measure_lesions(volumes(), {"model": volumes().real_suv})["model"]
    for detection in (lesions.fixed, lesions.relative):
        assert (len(detection.found), detection.missed, detection.fabricated) == (3, (), ())


def test_the_free_response_curve_varies_the_threshold_of_the_synthetic_pet() -> None:
    curve = measure_lesions(volumes(), {"model": volumes().synthetic_suv}, with_curve=("model",))["model"].curve
    assert [point.threshold_suv for point in curve] == list(CURVE_THRESHOLDS_SUV)
    by_threshold = {point.threshold_suv: (point.found, point.fabricated) for point in curve}
    # spots of 5, 10 and (fabricated) 4 SUV
    assert [by_threshold[t] for t in (2.5, 3.5, 4.0, 6.0, 10.0)] == [(2, 1), (2, 1), (2, 0), (1, 0), (0, 0)]


def test_the_curve_over_patients_pools_lesions_and_averages_pairs() -> None:
    def points(found: int, fabricated: int) -> list[OperatingPoint]:
        return [OperatingPoint(threshold, found, fabricated) for threshold in CURVE_THRESHOLDS_SUV]

    # patient 1: two pairs with 2 and 4 real lesions, mean 3, found 2, fabricated 1; patient 2: 1 lesion, found
    curve = pooled_curve([[(2, points(1, 0)), (4, points(3, 2))], [(1, points(1, 3))]])
    assert (curve[0].sensitivity, curve[0].fabricated_per_patient) == (3 / 4, 2)
    assert math.isnan(pooled_curve([[(0, points(0, 1))]])[0].sensitivity)


def test_the_sentence_and_the_table_of_lesions(tmp_path: Path) -> None:
    lesions = measure_lesions(volumes(), {"model": volumes().synthetic_suv})["model"]
    judgement = judge_patients([("P", {method: lesions.metrics() for method in METHODS})])
    assert lesion_sentence(judgement, "fixed") == (
        "Of 3.0 real lesions per patient, the synthetic PET shows 2.0 (67 %), misses 1.0, and fabricates 1.0 more "
        "(3 mL)."
    )
    write_lesions([("P", "no", lesions)], tmp_path)
    with (tmp_path / "lesions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert list(rows[0].values()) == ["P", "no", "fixed", "found", "2.0", "8.0"]
