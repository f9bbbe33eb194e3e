"""Whether a model beats the trivial predictors, on figures whose answer is known."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from lib.metrics.criteria import HU_SHARE, MEASURES, METHODS
from lib.metrics.verdict import Judgement, MethodMetrics, judge_patients, verdict_sentence

NAMES = (*(measure.name for measure in MEASURES), HU_SHARE)


def figures(hu_share: float = 0.4, **by_method: dict[str, float]) -> MethodMetrics:
    """All figures undefined but those given by method; how much of the model's PET HU explains."""
    told = {method: dict.fromkeys(NAMES, math.nan) for method in METHODS}
    told["model"][HU_SHARE] = hu_share
    for method, values in by_method.items():
        told[method] |= values
    return told


def judge(measure: str, rows: list[tuple[float, ...]], **more: Any) -> Judgement:
    """Judge one measure: a row a patient, its values in the order of METHODS."""
    pairs = [
        (f"P{number}", figures(**{m: {measure: v} for m, v in zip(METHODS, row, strict=True)}, **more))
        for number, row in enumerate(rows)
    ]
    return judge_patients(pairs)


#        model zero constant hu_mean hu_median
CLEAR = [(0.4, 1.0, 0.8, 0.7, 0.6), (0.5, 1.1, 0.9, 0.8, 0.7), (0.3, 0.9, 0.7, 0.6, 0.5)]


def test_a_model_ahead_in_every_patient_beats_all() -> None:
    judgement = judge("mae_suv_body", CLEAR)
    assert judgement.not_beaten("mae_suv_body") == ()
    assert judgement.strongest["mae_suv_body"] == "hu_median" and judgement.best["mae_suv_body"] == "model"
    difference = judgement.against["hu_median"]["mae_suv_body"].difference
    assert (difference.mean, difference.low, difference.high) == pytest.approx((-0.2, -0.2, -0.2))
    assert verdict_sentence(judgement) == (
        "The model beats zero, constant, hu_mean and hu_median. Its mean absolute error inside the body is 0.400 SUV; "
        "that of the strongest trivial predictor, hu_median (median SUV of each HU), is 0.600 (difference -0.200, 95 % "
        "confidence -0.200 to -0.200; 3 patients it has never seen)."
    )


def test_a_lead_that_hangs_on_one_patient_is_not_sure() -> None:
    judgement = judge("mae_suv_body", [(0.1, 2, 2, 2, 0.9), (0.5, 2, 2, 2, 0.4), (0.5, 2, 2, 2, 0.45)])
    assert judgement.against["hu_median"]["mae_suv_body"].outcome == "unsure"
    assert judgement.not_beaten("mae_suv_body") == ("hu_median",)
    assert "it is ahead of hu_median, though not surely" in verdict_sentence(judgement)


def test_a_model_behind_a_lookup_is_told_so() -> None:
    judgement = judge("mae_suv_body", [(0.6, 1.0, 0.8, 0.7, 0.5), (0.7, 1.0, 0.8, 0.8, 0.6)])
    words = verdict_sentence(judgement)
    assert words.startswith("The model does not beat hu_median; it beats zero, constant and hu_mean.")
    assert words.endswith("So far it is worth no more than a lookup table of HU.")


@pytest.mark.parametrize(
    ("measure", "model", "outcome"),
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
def test_which_way_is_better(measure: str, model: float, outcome: str) -> None:
    judgement = judge(measure, [(model, 20.0, 20.0, 20.0, 20.0)] * 3)
    assert judgement.against["constant"][measure].outcome == outcome


def test_a_baseline_without_a_value_is_neither_beaten_nor_standing() -> None:
    judgement = judge("correlation_body", [(0.5, math.nan, math.nan, 0.4, 0.3)] * 2)
    assert judgement.against["zero"]["correlation_body"].outcome == "undefined"
    assert judgement.not_beaten("correlation_body") == ()
    assert judgement.strongest["correlation_body"] == "hu_mean"


def test_figures_equal_to_the_lookups_beat_nothing_of_it() -> None:
    judgement = judge("mae_suv_body", [(0.6, 1.0, 0.8, 0.7, 0.6), (0.7, 1.2, 0.9, 0.8, 0.7)], hu_share=1.0)
    assert judgement.is_lookup
    assert judgement.not_beaten("mae_suv_body") == ("hu_mean", "hu_median")
    assert judgement.best.get("mae_suv_body") is None  # shared with hu_median


def test_a_lookup_that_leads_by_interpolation_is_exposed() -> None:
    # as a lookup on the CT's own pixels does on real patients: 0.004 SUV ahead, in every one of them
    judgement = judge("mae_suv_body", [(0.596, 1.0, 0.8, 0.7, 0.6), (0.696, 1.2, 0.9, 0.8, 0.7)], hu_share=0.94)
    assert judgement.outcomes("mae_suv_body", "beaten") == ("zero", "constant")
    assert "does not beat hu_mean and hu_median" in verdict_sentence(judgement)
    assert "It is a lookup table itself: a voxel's HU alone explains 94 % of its PET" in verdict_sentence(judgement)


def test_one_patient_proves_nothing() -> None:
    judgement = judge("mae_suv_body", CLEAR[:1])
    assert judgement.not_beaten("mae_suv_body") == ("zero", "constant", "hu_mean", "hu_median")
    assert "one patient gives no confidence interval" in verdict_sentence(judgement)


def test_pairs_of_one_patient_count_once() -> None:
    def with_mae(value: float) -> MethodMetrics:
        return figures(**{method: {"mae_suv_body": value} for method in METHODS})

    judgement = judge_patients([("P1", with_mae(1.0)), ("P1", with_mae(3.0)), ("P2", with_mae(5.0))])
    assert judgement.patients == 2
    assert judgement.intervals["model"]["mae_suv_body"].mean == pytest.approx((2.0 + 5.0) / 2)


def test_nothing_measured_says_so() -> None:
    assert verdict_sentence(judge_patients([("P1", figures())])).startswith("There is nothing to judge by")


def test_the_judgement_becomes_plain_values() -> None:
    told = json.loads(json.dumps(judge("mae_suv_body", CLEAR).as_json(), allow_nan=False))
    assert told["against"]["zero"]["mae_suv_body"]["outcome"] == "beaten"
    assert told["not_beaten"]["mae_suv_body"] == []
    assert told["intervals"]["model"]["mae_suv_body"] == pytest.approx(
        {"mean": 0.4, "low": 0.3, "high": 0.5, "count": 3}
    )
    assert told["intervals"]["model"]["ssim"]["mean"] is None
    assert (told["is_lookup"], told["hu_share"]["mean"]) == (False, pytest.approx(0.4))
