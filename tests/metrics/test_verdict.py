"""Whether a model beats the baselines, on values with a known result."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from lib.metrics.baselines import ORGAN_MEDIAN
from lib.metrics.criteria import HU_SHARE, METHODS, METRICS
from lib.metrics.verdict import Judgement, MethodMetrics, judge_patients, verdict_sentence

NAMES = (*(metric.name for metric in METRICS), HU_SHARE)


def metrics_of(hu_share: float = 0.4, **by_method: dict[str, float]) -> MethodMetrics:
    """Metrics by method, NaN unless given, and the share of the model's PET that HU explains."""
    metrics = {method: dict.fromkeys(NAMES, math.nan) for method in METHODS}
    metrics["model"][HU_SHARE] = hu_share
    for method, values in by_method.items():
        metrics[method] |= values
    return metrics


def judge(metric: str, rows: list[tuple[float, ...]], **more: Any) -> Judgement:
    """Judge one metric: one row per patient, with the values in the order of METHODS."""
    pairs = [
        (f"P{number}", metrics_of(**{m: {metric: v} for m, v in zip(METHODS, row, strict=True)}, **more))
        for number, row in enumerate(rows)
    ]
    return judge_patients(pairs)


#        model zero constant hu_mean hu_median
CLEAR = [(0.4, 1.0, 0.8, 0.7, 0.6), (0.5, 1.1, 0.9, 0.8, 0.7), (0.3, 0.9, 0.7, 0.6, 0.5)]


def test_a_model_better_in_every_patient_beats_all() -> None:
    judgement = judge("mae_suv_body", CLEAR)
    assert judgement.not_beaten("mae_suv_body") == ()
    assert judgement.strongest["mae_suv_body"] == "hu_median" and judgement.best["mae_suv_body"] == "model"
    difference = judgement.against["hu_median"]["mae_suv_body"].difference
    assert (difference.mean, difference.low, difference.high) == pytest.approx((-0.2, -0.2, -0.2))
    assert verdict_sentence(judgement) == (
        "Better than all four baselines; tested on 3 unseen patients. Body MAE 0.400 SUV; that of the strongest "
        "baseline, median SUV per HU, 0.600 SUV (difference -0.200 SUV, 95 % confidence -0.200 to -0.200)."
    )


@pytest.mark.parametrize(
    ("out_of_fold", "described"),
    [
        (("P0", "P1", "P2"), "; tested on 3 patients out of fold."),
        (("P0", "P1"), "; tested on 2 patients out of fold and 1 unseen patient."),
        (("P0", "another"), "; tested on 1 patient out of fold and 2 unseen patients."),
    ],
)
def test_patients_who_trained_an_ensemble_are_not_called_unseen(out_of_fold: tuple[str, ...], described: str) -> None:
    row = metrics_of(**{m: {"mae_suv_body": value} for m, value in zip(METHODS, CLEAR[0], strict=True)})
    judgement = judge_patients([("P0", row), ("P1", row), ("P2", row)], out_of_fold=out_of_fold)
    assert described in verdict_sentence(judgement)


def test_organ_median_is_a_fifth_baseline_only_where_every_patient_has_it() -> None:
    row = dict(zip(METHODS, CLEAR[0], strict=True))
    four = metrics_of(**{method: {"mae_suv_body": value} for method, value in row.items()})
    five = {**four, ORGAN_MEDIAN: {**four["hu_median"], "mae_suv_body": 0.55}}
    judgement = judge_patients([("P1", five), ("P2", five)])
    assert judgement.baselines[-1] == judgement.strongest["mae_suv_body"] == ORGAN_MEDIAN
    assert "Better than all five baselines; " in verdict_sentence(judgement)
    assert "the strongest baseline, median SUV per organ, 0.550 SUV" in verdict_sentence(judgement)
    assert judge_patients([("P1", five), ("P2", four)]).methods == METHODS


def test_a_lead_that_depends_on_one_patient_is_not_significant() -> None:
    judgement = judge("mae_suv_body", [(0.1, 2, 2, 2, 0.9), (0.5, 2, 2, 2, 0.4), (0.5, 2, 2, 2, 0.45)])
    assert judgement.against["hu_median"]["mae_suv_body"].outcome == "unsure"
    assert judgement.not_beaten("mae_suv_body") == ("hu_median",)
    assert "; better than median SUV per HU on average, but not significantly; " in verdict_sentence(judgement)


def test_a_model_worse_than_a_lookup_table_is_reported() -> None:
    judgement = judge("mae_suv_body", [(0.6, 1.0, 0.8, 0.7, 0.5), (0.7, 1.0, 0.8, 0.8, 0.6)])
    sentence = verdict_sentence(judgement)
    assert sentence.startswith(
        "Not better than median SUV per HU; better than zero uptake, constant SUV and mean SUV per HU; "
    )
    assert sentence.endswith("The model is not better than a lookup table of HU.")


@pytest.mark.parametrize(
    ("metric", "model", "outcome"),
    [
        ("psnr_db_body", 21.0, "beaten"),  # higher is better
        ("psnr_db_body", 19.0, "not beaten"),
        ("mse_body", 21.0, "not beaten"),  # lower is better
        ("bias_suv_body", -19.0, "beaten"),  # nearer to 0, whatever the sign
        ("bias_suv_body", -21.0, "not beaten"),
        ("psnr_db_body", 20.0, "not beaten"),  # equal is not better
        ("psnr_db_body", math.nan, "not beaten"),  # a model without a value loses to one that has it
    ],
)
def test_the_better_direction_of_each_metric(metric: str, model: float, outcome: str) -> None:
    judgement = judge(metric, [(model, 20.0, 20.0, 20.0, 20.0)] * 3)
    assert judgement.against["constant"][metric].outcome == outcome


def test_a_baseline_without_a_value_is_neither_beaten_nor_unbeaten() -> None:
    judgement = judge("correlation_body", [(0.5, math.nan, math.nan, 0.4, 0.3)] * 2)
    assert judgement.against["zero"]["correlation_body"].outcome == "undefined"
    assert judgement.not_beaten("correlation_body") == ()
    assert judgement.strongest["correlation_body"] == "hu_mean"


def test_a_model_equal_to_a_lookup_table_does_not_beat_it() -> None:
    judgement = judge("mae_suv_body", [(0.6, 1.0, 0.8, 0.7, 0.6), (0.7, 1.2, 0.9, 0.8, 0.7)], hu_share=1.0)
    assert judgement.is_lookup
    assert judgement.not_beaten("mae_suv_body") == ("hu_mean", "hu_median")
    assert judgement.best.get("mae_suv_body") is None  # shared with hu_median


def test_a_lookup_table_that_leads_by_interpolation_does_not_beat_the_baselines() -> None:
    # a lookup table on the CT's own pixels is 0.004 SUV better on real patients, in every one of them
    judgement = judge("mae_suv_body", [(0.596, 1.0, 0.8, 0.7, 0.6), (0.696, 1.2, 0.9, 0.8, 0.7)], hu_share=0.94)
    assert judgement.outcomes("mae_suv_body", "beaten") == ("zero", "constant")
    assert verdict_sentence(judgement).startswith("Not better than mean SUV per HU and median SUV per HU; ")
    assert "acts as a lookup table: HU alone explains 94 % of the variance of its PET" in verdict_sentence(judgement)


def test_one_patient_gives_no_confidence_interval() -> None:
    judgement = judge("mae_suv_body", CLEAR[:1])
    assert judgement.not_beaten("mae_suv_body") == ("zero", "constant", "hu_mean", "hu_median")
    assert "one patient gives no confidence interval" in verdict_sentence(judgement)


def test_pairs_of_one_patient_are_averaged() -> None:
    def with_mae(value: float) -> MethodMetrics:
        return metrics_of(**{method: {"mae_suv_body": value} for method in METHODS})

    judgement = judge_patients([("P1", with_mae(1.0)), ("P1", with_mae(3.0)), ("P2", with_mae(5.0))])
    assert judgement.patients == 2
    assert judgement.intervals["model"]["mae_suv_body"].mean == pytest.approx((2.0 + 5.0) / 2)


def test_the_sentence_without_measured_voxels() -> None:
    assert verdict_sentence(judge_patients([("P1", metrics_of())])).startswith("Nothing could be evaluated")


def test_the_judgement_as_json() -> None:
    found = json.loads(json.dumps(judge("mae_suv_body", CLEAR).as_json(), allow_nan=False))
    assert found["against"]["zero"]["mae_suv_body"]["outcome"] == "beaten"
    assert found["not_beaten"]["mae_suv_body"] == []
    assert found["intervals"]["model"]["mae_suv_body"] == pytest.approx(
        {"mean": 0.4, "low": 0.3, "high": 0.5, "count": 3}
    )
    assert found["intervals"]["model"]["ssim"]["mean"] is None
    assert (found["is_lookup"], found["hu_share"]["mean"]) == (False, pytest.approx(0.4))
