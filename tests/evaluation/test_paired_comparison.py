"""The model compared with an external program, on values with a known result."""

from __future__ import annotations

import json
import math

import pytest

from lib.evaluation.champion_comparison import MIN_PATIENTS
from lib.evaluation.paired_comparison import (
    PAIRED_METRICS,
    ExternalComparison,
    compare_with_external,
    external_sentence,
)
from lib.metrics.verdict import MethodMetrics


def pair(metric: str, model: float, program: float) -> MethodMetrics:
    undefined = dict.fromkeys((m.name for m in PAIRED_METRICS), math.nan)
    return {"model": {**undefined, metric: model}, "other": {**undefined, metric: program}}


def comparison(metric: str, *rows: tuple[float, float]) -> ExternalComparison:
    return compare_with_external("other", [(f"P{number}", pair(metric, *row)) for number, row in enumerate(rows)])


@pytest.mark.parametrize(
    ("metric", "rows", "ahead"),
    [
        ("mae_suv_body", [(0.4, 0.5), (0.5, 0.6)] * 3, "model"),  # lower is better
        ("mae_suv_body", [(0.5, 0.4), (0.6, 0.5)] * 3, "peer"),
        ("mae_suv_body", [(0.4, 0.5), (0.6, 0.5)] * 3, "neither"),
        ("psnr_db_body", [(20, 19), (21, 20)] * 3, "model"),  # higher is better
        ("correlation_body", [(0.4, 0.5), (0.5, 0.6)] * 3, "peer"),
        ("tumour_suv_mean_error", [(-3, 4), (2, -3)] * 3, "model"),  # absolute values of signed errors
        ("mae_suv_body", [(0.4, 0.5)], "undefined"),  # one patient has no interval
        ("mae_suv_body", [(0.4, 0.5)] * (MIN_PATIENTS - 1), "undefined"),  # all favour one, which may be chance
        ("ssim_body", [(0.4, math.nan), (0.5, math.nan)] * 3, "undefined"),
    ],
)
def test_which_one_is_ahead(metric: str, rows: list[tuple[float, float]], ahead: str) -> None:
    assert comparison(metric, *rows).metrics[metric].ahead == ahead


def test_only_patients_with_both_values_are_used() -> None:
    paired = comparison("mae_suv_body", (0.4, 0.5), (0.9, math.nan), (0.6, 0.8)).metrics["mae_suv_body"]
    assert (paired.model.mean, paired.program.mean) == (pytest.approx(0.5), pytest.approx(0.65))
    assert paired.difference.mean == pytest.approx(-0.15) and paired.difference.count == 2


def test_pairs_of_one_patient_are_averaged() -> None:
    pairs = [("P1", pair("mae_suv_body", 1, 2)), ("P1", pair("mae_suv_body", 3, 2)), ("P2", pair("mae_suv_body", 5, 4))]
    found = compare_with_external("other", pairs)
    assert found.patients == 2 and found.metrics["mae_suv_body"].model.mean == pytest.approx(3.5)


def test_the_sentence_states_which_one_is_better_in_which_metric() -> None:
    found = comparison("mae_suv_body", *[(0.4, 0.5), (0.5, 0.6)] * 3)
    assert external_sentence(found) == (
        "Significantly better than other in body MAE; tested on 6 patients. Body MAE 0.450 SUV (model) and 0.550 SUV "
        "(other)."
    )
    few = comparison("mae_suv_body", (0.4, 0.5), (0.5, 0.6))
    assert external_sentence(few).startswith(
        "Too few patients to say whether it is better than other: at least 5 are needed; tested on 2 patients. Body MAE"
    )
    unsure = comparison("mae_suv_body", *[(0.4, 0.5), (0.6, 0.5)] * 3)
    assert external_sentence(unsure).startswith("No significant difference from other; tested on ")
    assert external_sentence(comparison("mae_suv_body")) == (
        "Not compared with other: it has no volume of a patient that is unseen by the model."
    )


def test_the_comparison_as_json() -> None:
    found = comparison("mae_suv_body", *[(0.4, 0.5), (0.5, 0.6)] * 3)
    result = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert result["patients"] == 6 and result["measures"]["mae_suv_body"]["ahead"] == "model"
    assert result["measures"]["ssim_body"]["model"]["mean"] is None
