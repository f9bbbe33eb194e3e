"""Expected against observed errors: computed by hand for few patients, and in a full evaluation."""

from __future__ import annotations

import csv
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.dicom.scan.scan import scan_folder
from lib.errors import InputError
from lib.evaluation.calibration_check import (
    CalibrationCheck,
    calibration_sentence,
    check_calibration,
    check_card_calibration,
    mean_calibration_check,
    rank_correlation,
    write_calibration_check,
)  # fmt: skip
from lib.evaluation.evaluate import Evaluation, evaluate_pairs
from lib.evaluation.slice_metrics import AlignedVolumes
from lib.imaging.geometry import Geometry
from lib.learning.checkpoint import save_checkpoint
from lib.learning.model_card.card import TrainingData, patient_digest
from lib.metrics.calibration import Calibration
from lib.networks.cascade import Cascade
from lib.pairing.pairs import pair_series
from lib.phantom.dicom import write_study
from lib.phantom.generate import PhantomSettings, phantom_patient
from lib.synthesis.synthesizer import Synthesizer
from tests.learning.conftest import make_card, tiny_recipe
from tests.learning.known_intervals import known_intervals

COARSE = PhantomSettings(slices=8, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)
CURVE = Calibration(np.array([0.0, 4.0]), np.array([0.0, 2.0]), volumes=3)  # half the synthetic SUV


def check(rank: float, expected: float, observed: float) -> CalibrationCheck:
    return CalibrationCheck(rank, (expected,) * 10, (observed,) * 10)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1, 2, 3], [10, 20, 300], 1.0),
        ([1, 2, 3], [3, 2, 1], -1.0),
        ([1, 2, 3, 4], [2, 1, 4, 3], 0.6),  # 1 - 6 * 4 / (4 * 15)
        ([1, 1, 1], [1, 2, 3], math.nan),
        ([], [], math.nan),
    ],
)
def test_rank_correlation_computed_by_hand(first: list[float], second: list[float], expected: float) -> None:
    assert rank_correlation(np.array(first), np.array(second)) == pytest.approx(expected, nan_ok=True)


def test_tenths_computed_by_hand() -> None:
    # twenty voxels: the two with the smallest expected error are the first tenth
    expected = np.arange(20.0)[::-1]
    found = check_calibration(expected.reshape(4, 5), 2 * expected.reshape(4, 5))
    assert found.rank_correlation == pytest.approx(1.0)
    assert found.expected_suv == (0.5, 2.5, 4.5, 6.5, 8.5, 10.5, 12.5, 14.5, 16.5, 18.5)
    assert found.observed_suv == tuple(2 * value for value in found.expected_suv)


def test_a_constant_expected_error_has_no_rank_correlation() -> None:
    found = check_calibration(np.full(20, 0.5), np.arange(20.0))
    assert math.isnan(found.rank_correlation) and found.as_json()["rank_correlation"] is None
    assert set(found.expected_suv) == {0.5}


def test_fewer_voxels_than_tenths_have_no_curve() -> None:
    json.dumps(found := check_calibration(np.ones(9), np.ones(9)).as_json(), allow_nan=False)
    assert found == {"rank_correlation": None, "expected_suv": (), "observed_suv": ()}


def test_different_shapes_are_rejected() -> None:
    with pytest.raises(InputError, match="3 expected errors for 2"):
        check_calibration(np.ones(3), np.ones(2))


def test_pairs_of_one_patient_count_as_their_mean() -> None:
    # A: ranks 0.2 and 0.4, so 0.3; B: 0.5; the mean over both patients is 0.4
    overall = mean_calibration_check([("A", check(0.2, 1, 1)), ("A", check(0.4, 1, 3)), ("B", check(0.5, 2, 4))])
    assert overall is not None and overall.patients == 2
    assert overall.rank_correlation.mean == pytest.approx(0.4)
    assert overall.expected_suv == (1.5,) * 10  # (1 + 2) / 2
    assert overall.observed_suv == (3.0,) * 10  # (2 + 4) / 2
    assert overall.calibration_error_suv == pytest.approx(1.5)


def test_without_measured_patients_there_is_no_mean() -> None:
    assert mean_calibration_check([]) is None
    assert mean_calibration_check([("A", None), ("B", CalibrationCheck(math.nan, (), ()))]) is None
    assert "has no calibration" in calibration_sentence(None)


def test_a_constant_expected_error_is_stated_and_valid_json() -> None:
    overall = mean_calibration_check([("A", check(math.nan, 0.5, 0.25))])
    assert overall is not None and "The expected error is the same in every voxel." in calibration_sentence(overall)
    result = json.loads(json.dumps(overall.as_json(), allow_nan=False))
    assert (result["rank_correlation"]["mean"], result["calibration_error_suv"]) == (None, 0.25)


def test_the_sentence_states_largest_and_smallest_errors_and_rank_correlation() -> None:
    expected_suv, observed_suv = tuple(np.linspace(0.1, 1, 10)), tuple(np.linspace(0.2, 2, 10))
    overall = mean_calibration_check([("A", CalibrationCheck(0.54, expected_suv, observed_suv))])
    assert calibration_sentence(overall).startswith(
        "In the tenth of the voxels with the largest expected error (1.00 SUV), the observed error is 2.00 SUV; in the "
        "tenth with the smallest (0.10 SUV), it is 0.20 SUV. The rank correlation of expected and observed errors over "
        "the body's voxels is 0.54"
    )


def test_only_voxels_of_the_body_are_compared() -> None:
    # inside: synthetic SUV 1 to 20, off by half of each, as the curve expects; outside by far more
    synthetic = np.arange(1, 41, dtype=np.float32).reshape(1, 4, 10) / 10
    body = np.zeros(synthetic.shape, np.bool_)
    body[:, :2] = True
    real = np.where(body, synthetic * np.float32(1.5), np.float32(90))
    geometry = Geometry((1, 4, 10), np.eye(4))
    volumes = AlignedVolumes(synthetic, synthetic, real, body, np.ones_like(body), geometry)
    found = check_card_calibration(volumes, make_card(calibration=CURVE.to_json()))
    assert found is not None and found.rank_correlation == pytest.approx(1.0)
    np.testing.assert_allclose(found.observed_suv, found.expected_suv, rtol=1e-4)
    assert found.expected_suv[0] == pytest.approx(0.075)  # half of the mean of 0.1 and 0.2


@pytest.mark.parametrize("calibration", [None, {"predictor": "stars"}])
def test_a_card_without_a_valid_calibration_gives_no_check(calibration: dict[str, str] | None) -> None:
    one = np.ones((1, 4, 5), np.float32)
    volumes = AlignedVolumes(one, one, one, one > 0, one > 0, Geometry((1, 4, 5), np.eye(4)))
    assert check_card_calibration(volumes, make_card(calibration=calibration)) is None


def test_without_a_check_the_table_of_an_earlier_evaluation_is_removed(tmp_path: Path) -> None:
    assert write_calibration_check([("A", "no", check(0.5, 1, 1))], tmp_path) == tmp_path / "uncertainty.csv"
    assert write_calibration_check([("A", "no", None)], tmp_path) is None
    assert not list(tmp_path.iterdir())


# -- in a full evaluation ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluation")


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory, out: Path) -> Evaluation:
    """Phantoms 1 (training set), 2 and 4 (unseen)."""
    root = tmp_path_factory.mktemp("phantoms")
    for number in (1, 2, 4):
        patient = phantom_patient(number, 0, COARSE)
        write_study(patient, root / patient.patient_id)
    torch.manual_seed(0)
    recipe = tiny_recipe("pixel_mm=6.4")
    seen = TrainingData((patient_digest("PHANTOM_0001"),), (), 1, 8, "0123")
    card = replace(make_card(recipe=recipe, network=recipe.network, training=seen), calibration=CURVE.to_json())
    card = replace(card, intervals=known_intervals().to_json())
    path = save_checkpoint(out / "model.safetensors", Cascade(recipe.network), card)
    return evaluate_pairs(pair_series(scan_folder(root)).pairs, Synthesizer.load(path, device="cpu"), out)


def test_the_json_holds_every_patient_and_the_mean_over_unseen_ones(evaluation: Evaluation, out: Path) -> None:
    result = json.loads((out / "evaluation.json").read_text())
    ranks = {of["patient_id"]: of["uncertainty"]["rank_correlation"] for of in result["patients"]}
    assert len(ranks) == 3
    overall = result["uncertainty"]
    assert overall["patients"] == 2
    assert overall["rank_correlation"]["mean"] == pytest.approx((ranks["PHANTOM_0002"] + ranks["PHANTOM_0004"]) / 2)
    assert len(overall["expected_suv"]) == len(overall["observed_suv"]) == 10


def test_the_table_has_a_line_for_each_patient_and_tenth(evaluation: Evaluation, out: Path) -> None:
    rows = list(csv.DictReader((out / "uncertainty.csv").read_text().splitlines()))
    assert len(rows) == 30
    assert {row["seen"] for row in rows if row["patient_id"] == "PHANTOM_0001"} == {"train"}
    assert [row["tenth"] for row in rows[:2]] == ["1/10", "2/10"]


def test_the_report_shows_the_curve_with_an_explanation(evaluation: Evaluation, out: Path) -> None:
    page = (out / "report.html").read_text()
    assert "Calibration curve of the expected error" in page
    sentence = re.search(r"In the tenth of the voxels with the largest expected error.*not visible in the CT\.", page)
    assert sentence is not None
    assert calibration_sentence(evaluation.calibration_check) == sentence[0].replace("&#39;", "'")


def test_the_coverage_of_the_intervals_is_in_the_json_and_in_the_report(evaluation: Evaluation, out: Path) -> None:
    rows = json.loads((out / "evaluation.json").read_text())["interval_coverage"]["rows"]
    assert rows[0]["name"] == "SUV of a voxel" and rows[0]["patients"] == 2
    assert all(0 <= share <= 1 for row in rows for share in row["reached"])
    page = (out / "report.html").read_text()
    assert "Intervals: promised and reached coverage" in page and "calibrated on 20 patients" in page
    assert "<td>SUVmax of a region, 2 to 8 mL</td><td>2</td>" in page
