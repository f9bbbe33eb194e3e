"""The sentence on how a model compares with the baselines."""

from __future__ import annotations

import json
import math

import pytest

from lib.metrics.baseline_comparison import BaselineComparison, compare_with_baselines, not_judged
from lib.metrics.criteria import COMPARED_METRICS, HU_SHARE, METHODS
from lib.metrics.verdict import MethodMetrics, judge_patients

NAMES = [metric.name for metric in COMPARED_METRICS]
#          mae_suv_body, psnr_db_body, ssim_body, correlation_body: the model is better everywhere
MODEL, BASELINE = (0.40, 24.0, 0.90, 0.60), (0.50, 22.0, 0.80, 0.50)


def patient(model: tuple[float, ...], hu_share: float = 0.4, **others: tuple[float, ...]) -> MethodMetrics:
    """One patient's metrics in the order of NAMES; baselines not given have `BASELINE`."""
    rows = {method: others.get(method, BASELINE) for method in METHODS} | {"model": model}
    metrics = {method: dict(zip(NAMES, row, strict=True)) for method, row in rows.items()}
    metrics["model"][HU_SHARE] = hu_share
    return metrics


def comparison(*patients: MethodMetrics, caution: str = "") -> BaselineComparison:
    pairs = [(f"P{number}", metrics) for number, metrics in enumerate(patients)]
    judgement = judge_patients(pairs, metrics=COMPARED_METRICS)
    return compare_with_baselines(judgement, evaluated_on=f"{len(patients)} test patients", caution=caution)


def test_a_model_better_in_every_patient_and_metric_beats_all() -> None:
    found = comparison(*[patient(MODEL)] * 12)
    assert found.mark == "beats all"
    assert found.sentence == (
        "Better than all four baselines; tested on 12 test patients. Model and strongest baseline: body MAE 0.400 and "
        "0.500 SUV (zero uptake); body PSNR 24.00 and 22.00 dB (zero uptake); body SSIM 0.900 and 0.800 (zero uptake); "
        "body correlation 0.600 and 0.500 (zero uptake)."
    )
    assert set(found.outcomes) == set(NAMES) and set(found.outcomes["ssim_body"].values()) == {"beaten"}


def test_one_unbeaten_baseline_in_one_metric_sets_the_mark() -> None:
    found = comparison(*[patient((0.52, *MODEL[1:]), hu_median=(0.51, *BASELINE[1:]), zero=(0.9, *BASELINE[1:]),
                               constant=(0.9, *BASELINE[1:]), hu_mean=(0.6, *BASELINE[1:]))] * 3)  # fmt: skip
    assert found.mark == "does not beat all"
    assert found.sentence.startswith(
        "Not better than median SUV per HU in body MAE; tested on 3 test patients (few, so the confidence intervals "
        "are too narrow). Model and strongest baseline: body MAE 0.520 and 0.510 SUV (median SUV per HU); "
    )
    assert found.sentence.endswith(" The model is not better than a lookup table of HU.")
    assert found.outcomes["mae_suv_body"]["hu_median"] == "not beaten"


def test_a_lead_within_the_confidence_interval_is_not_significant() -> None:
    found = comparison(patient((0.2, *MODEL[1:])), patient((0.55, *MODEL[1:])), patient((0.55, *MODEL[1:])))
    assert found.mark == "not surely"
    assert found.sentence.startswith(
        "Better than all four baselines on average, but not significantly in body MAE; tested on 3 test patients"
    )


def test_one_patient_gives_no_significance() -> None:
    found = comparison(patient(MODEL))
    assert found.mark == "not surely"
    assert found.sentence.startswith(
        "Better than all four baselines on average, but not significantly; tested on 1 test patients"
    )


def test_the_first_sentence_is_short_where_several_metrics_are_lost() -> None:
    found = comparison(*[patient((0.52, 24.0, 0.7, 0.60), hu_mean=(0.9, 22.0, 0.8, 0.50))] * 3)
    assert found.sentence.startswith(
        "Not better than zero uptake, constant SUV and median SUV per HU in body MAE; tested on 3 test patients (few, "
        "so the confidence intervals are too narrow). It is also not better than any baseline in body SSIM. Model and "
    )


def test_only_the_baselines_concerned_are_named() -> None:
    worse = (0.52, *MODEL[1:])
    found = comparison(*[patient(worse, hu_mean=(0.6, *BASELINE[1:]), constant=(0.6, *BASELINE[1:]))] * 3)
    assert found.sentence.startswith("Not better than zero uptake and median SUV per HU in body MAE; tested on 3 ")


def test_a_baseline_without_a_value_need_not_be_beaten() -> None:
    flat = (*BASELINE[:3], math.nan)  # the correlation of a constant is undefined
    assert comparison(*[patient(MODEL, zero=flat, constant=flat)] * 10).mark == "beats all"


def test_a_model_that_acts_as_a_lookup_table_is_reported() -> None:
    found = comparison(*[patient(MODEL, hu_share=0.95)] * 10)
    assert found.mark == "does not beat all"
    assert found.sentence.startswith(
        "Not better than mean SUV per HU and median SUV per HU in body MAE, body PSNR, body SSIM and body correlation; "
    )
    assert "The model acts as a lookup table: HU alone explains 95 % of the variance of its PET" in found.sentence


def test_a_caution_is_part_of_the_sentence() -> None:
    assert (
        "tested on 1 test patients (only means are known)."
        in comparison(patient(MODEL), caution="only means are known").sentence
    )


UNMEASURED = patient((math.nan,) * 4, **dict.fromkeys(METHODS[1:], (math.nan,) * 4))


@pytest.mark.parametrize("found", [not_judged("no patients were held out"), comparison(UNMEASURED)])
def test_nothing_measured_is_not_judged(found: BaselineComparison) -> None:
    assert (found.mark, found.outcomes) == ("not judged", {})
    assert found.sentence.startswith("Not compared with the baselines: no ")
    json.dumps(found.as_json(), allow_nan=False)
