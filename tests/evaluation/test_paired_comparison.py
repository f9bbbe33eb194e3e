"""The model and another program on the same patients, on figures whose answer is known."""

from __future__ import annotations

import json
import math

import pytest

from lib.evaluation.paired_comparison import BESIDE, Beside, beside_sentence, set_beside
from lib.metrics.verdict import MethodMetrics


def pair(measure: str, model: float, peer: float) -> MethodMetrics:
    undefined = dict.fromkeys((m.name for m in BESIDE), math.nan)
    return {"model": {**undefined, measure: model}, "other": {**undefined, measure: peer}}


def beside(measure: str, *rows: tuple[float, float]) -> Beside:
    return set_beside("other", [(f"P{number}", pair(measure, *row)) for number, row in enumerate(rows)])


@pytest.mark.parametrize(
    ("measure", "rows", "ahead"),
    [
        ("mae_suv_body", [(0.4, 0.5), (0.5, 0.6)], "model"),  # lower is better
        ("mae_suv_body", [(0.5, 0.4), (0.6, 0.5)], "peer"),
        ("mae_suv_body", [(0.4, 0.5), (0.6, 0.5)], "neither"),
        ("psnr_db_body", [(20, 19), (21, 20)], "model"),  # higher is better
        ("correlation_body", [(0.4, 0.5), (0.5, 0.6)], "peer"),
        ("tumour_suv_mean_error", [(-3, 4), (2, -3)], "model"),  # of errors with a sign, their size
        ("mae_suv_body", [(0.4, 0.5)], "undefined"),  # one patient has no interval
        ("ssim_body", [(0.4, math.nan), (0.5, math.nan)], "undefined"),
    ],
)
def test_who_is_ahead(measure: str, rows: list[tuple[float, float]], ahead: str) -> None:
    assert beside(measure, *rows).metrics[measure].ahead == ahead


def test_only_patients_with_both_figures_count() -> None:
    paired = beside("mae_suv_body", (0.4, 0.5), (0.9, math.nan), (0.6, 0.8)).metrics["mae_suv_body"]
    assert (paired.model.mean, paired.peer.mean) == (pytest.approx(0.5), pytest.approx(0.65))
    assert paired.difference.mean == pytest.approx(-0.15) and paired.difference.count == 2


def test_pairs_of_one_patient_count_once() -> None:
    pairs = [("P1", pair("mae_suv_body", 1, 2)), ("P1", pair("mae_suv_body", 3, 2)), ("P2", pair("mae_suv_body", 5, 4))]
    found = set_beside("other", pairs)
    assert found.patients == 2 and found.metrics["mae_suv_body"].model.mean == pytest.approx(3.5)


def test_the_sentence_says_who_is_ahead_in_what() -> None:
    found = beside("mae_suv_body", (0.4, 0.5), (0.5, 0.6))
    assert beside_sentence(found) == (
        "other, 2 patients: body MAE 0.450 (model) and 0.550 SUV (other); the interval favours the model in MAE."
    )
    unsure = beside("mae_suv_body", (0.4, 0.5), (0.6, 0.5))
    assert beside_sentence(unsure).endswith("no interval tells the two apart.")
    assert beside_sentence(beside("mae_suv_body")) == "other: no volume of a patient that the model has never seen."


def test_it_becomes_plain_values() -> None:
    told = json.loads(json.dumps(beside("mae_suv_body", (0.4, 0.5), (0.5, 0.6)).as_json(), allow_nan=False))
    assert told["patients"] == 2 and told["measures"]["mae_suv_body"]["ahead"] == "model"
    assert told["measures"]["ssim_body"]["model"]["mean"] is None
