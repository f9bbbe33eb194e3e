"""Caveats of a verdict: what the body's mean error does not show."""

from __future__ import annotations

import math

import pytest

from lib.metrics.agreement import Interval
from lib.metrics.baseline_comparison import compare_with_baselines
from lib.metrics.caveats import find_caveats
from lib.metrics.criteria import COMPARED_METRICS, HU_SHARE, METHODS, VERDICT_METRICS
from lib.metrics.verdict import MethodMetrics, judge_patients, verdict_sentence

GOOD = {
    "mip_correlation": 0.8, "lesions_found_fixed": 4.0, "lesions_missed_fixed": 1.0, "lesions_fabricated_fixed": 1.0,
    "hot_found_ml": 100.0, "hot_false_ml": 20.0, "roughness_ratio": 0.9,
}  # fmt: skip


def caveats(**changed: float) -> list[str]:
    """Return the caveats' keys of a model with these means; the median lookup's projections correlate by 0.5."""
    means = {"model": GOOD | changed, "hu_median": {"mip_correlation": 0.5}, "zero": {"mip_correlation": math.nan}}
    intervals = {
        method: {name: Interval(mean, mean, mean, 5) for name, mean in row.items()} for method, row in means.items()
    }
    return [caveat.key for caveat in find_caveats(intervals)]


@pytest.mark.parametrize(
    ("changed", "keys"),
    [
        ({}, []),
        ({"mip_correlation": 0.49}, ["projection_below_baseline"]),
        ({"mip_correlation": 0.5}, []),  # as good as the baseline
        ({"mip_correlation": math.nan}, ["projection_below_baseline"]),  # flat
        ({"lesions_fabricated_fixed": 4.1}, ["fabricated_lesions"]),
        ({"lesions_fabricated_fixed": 4.0}, []),
        ({"hot_false_ml": 101.0}, ["false_hot_volume"]),
        ({"lesions_missed_fixed": 4.1}, ["missed_lesions"]),
        ({"roughness_ratio": 2.1}, ["rough_along_z"]),
        ({"roughness_ratio": 0.2}, []),  # smooth is not rough
        ({"roughness_ratio": math.nan}, []),
        (
            {"roughness_ratio": 9.0, "mip_correlation": 0.0, "lesions_found_fixed": 0.0},
            ["projection_below_baseline", "fabricated_lesions", "missed_lesions", "rough_along_z"],
        ),
    ],
)
def test_each_limit(changed: dict[str, float], keys: list[str]) -> None:
    assert caveats(**changed) == keys


def test_metrics_that_were_not_measured_give_no_caveat() -> None:
    assert find_caveats({"model": {}}) == ()
    assert find_caveats({method: {"ssim_body": Interval(1, 1, 1, 1)} for method in METHODS}) == ()


def patient(model_mae: float) -> MethodMetrics:
    """Baselines with an MAE of 0.5; the model's projections are worse and it is rough along z."""
    baseline = {metric.name: 0.5 for metric in COMPARED_METRICS} | {"mip_correlation": 0.6}
    model = {"mae_suv_body": model_mae, "psnr_db_body": 0.6, "ssim_body": 0.6, "correlation_body": 0.6}
    shown = GOOD | {"mip_correlation": 0.4, "roughness_ratio": 3.0}
    return {**dict.fromkeys(METHODS[1:], baseline), "model": {**model, **shown, HU_SHARE: 0.3}}


def test_the_verdict_of_a_model_that_is_ahead_has_its_caveats() -> None:
    judgement = judge_patients([(f"P{n}", patient(0.4)) for n in range(12)])
    sentence = verdict_sentence(judgement)
    assert sentence.startswith("Better than all four baselines; tested on 12 unseen patients.")
    assert sentence.endswith(
        " But: its maximum intensity projections resemble the real ones less than those of zero uptake (correlation "
        "0.400 against 0.600); from slice to slice it is 3.0 times as rough as the real PET."
    )
    verdict = judgement.as_json()["verdict"]
    assert [caveat["key"] for caveat in verdict["caveats"]] == ["projection_below_baseline", "rough_along_z"]
    assert all(caveat["sentence"] in verdict["sentence"] for caveat in verdict["caveats"])


def test_the_verdict_of_a_model_that_is_behind_has_them_too() -> None:
    judgement = judge_patients([(f"P{n}", patient(0.6)) for n in range(12)])
    assert " In addition: its maximum intensity projections" in verdict_sentence(judgement)


def test_the_comparison_of_a_card_holds_the_caveats() -> None:
    judgement = judge_patients([(f"P{n}", patient(0.4)) for n in range(12)], metrics=VERDICT_METRICS)
    comparison = compare_with_baselines(judgement, evaluated_on="12 validation patients")
    assert comparison.mark == "beats all"
    assert [caveat["key"] for caveat in comparison.as_json()["caveats"]] == [
        "projection_below_baseline",
        "rough_along_z",
    ]
    assert "But: its maximum intensity projections resemble" in comparison.sentence
