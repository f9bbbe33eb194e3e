"""One sentence that says whether a model beats every trivial predictor, and never more than was measured."""

from __future__ import annotations

import json
import math

import pytest

from lib.metrics.baseline_comparison import BaselineComparison, compare_with_baselines, not_judged
from lib.metrics.criteria import COMPARED_METRICS, HU_SHARE, METHODS
from lib.metrics.verdict import MethodMetrics, judge_patients

NAMES = [measure.name for measure in COMPARED_METRICS]
#          mae_suv_body, psnr_db_body, ssim_body, correlation_body: the model leads everywhere
MODEL, BASELINE = (0.40, 24.0, 0.90, 0.60), (0.50, 22.0, 0.80, 0.50)


def patient(model: tuple[float, ...], hu_share: float = 0.4, **others: tuple[float, ...]) -> MethodMetrics:
    """One patient's figures in the order of NAMES; baselines not given have `BASELINE`."""
    rows = {method: others.get(method, BASELINE) for method in METHODS} | {"model": model}
    figures = {method: dict(zip(NAMES, row, strict=True)) for method, row in rows.items()}
    figures["model"][HU_SHARE] = hu_share
    return figures


def standing(*patients: MethodMetrics, caution: str = "") -> BaselineComparison:
    pairs = [(f"P{number}", figures) for number, figures in enumerate(patients)]
    judgement = judge_patients(pairs, metrics=COMPARED_METRICS)
    return compare_with_baselines(judgement, evaluated_on=f"{len(patients)} test patients", caution=caution)


def test_a_model_ahead_in_every_patient_and_measure_beats_all() -> None:
    found = standing(*[patient(MODEL)] * 12)
    assert found.mark == "beats all"
    assert found.sentence == (
        "Beats every trivial predictor: mae_suv_body 0.400 against 0.500 of zero, psnr_db_body 24.00 against 22.00 of "
        "zero, ssim_body 0.900 against 0.800 of zero, correlation_body 0.600 against 0.500 of zero. Judged on 12 test "
        "patients."
    )
    assert set(found.outcomes) == set(NAMES) and set(found.outcomes["ssim_body"].values()) == {"beaten"}


def test_one_baseline_in_one_measure_is_enough_to_be_marked() -> None:
    found = standing(*[patient((0.52, *MODEL[1:]), hu_median=(0.51, *BASELINE[1:]), zero=(0.9, *BASELINE[1:]),
                               constant=(0.9, *BASELINE[1:]), hu_mean=(0.6, *BASELINE[1:]))] * 3)  # fmt: skip
    assert found.mark == "does not beat all"
    assert found.sentence == (
        "Does not beat every trivial predictor: does not beat hu_median in mae_suv_body (0.520 against 0.510). "
        "Judged on 3 test patients (few, so that confidence is overstated). So far it is worth no more than a lookup "
        "table of HU."
    )
    assert found.outcomes["mae_suv_body"]["hu_median"] == "not beaten"


def test_a_lead_that_may_be_chance_is_not_sure() -> None:
    found = standing(patient((0.2, *MODEL[1:])), patient((0.55, *MODEL[1:])), patient((0.55, *MODEL[1:])))
    assert found.mark == "not surely"
    assert "is ahead of zero, constant, hu_mean and hu_median in mae_suv_body, though not surely" in found.sentence
    assert "(0.433 against 0.500 of zero)" in found.sentence


def test_a_baseline_without_a_value_is_none_to_beat() -> None:
    flat = (*BASELINE[:3], math.nan)  # what is the same everywhere correlates with nothing
    assert standing(*[patient(MODEL, zero=flat, constant=flat)] * 10).mark == "beats all"


def test_a_lookup_is_told_to_be_one() -> None:
    found = standing(*[patient(MODEL, hu_share=0.95)] * 10)
    assert found.mark == "does not beat all"
    assert "does not beat hu_mean and hu_median in mae_suv_body" in found.sentence
    assert "It is a lookup table itself: a voxel's HU alone explains 95 % of its PET" in found.sentence


def test_a_caution_stands_in_the_sentence() -> None:
    assert (
        "Judged on 1 test patients (only means are known)."
        in standing(patient(MODEL), caution="only means are known").sentence
    )


UNMEASURED = patient((math.nan,) * 4, **dict.fromkeys(METHODS[1:], (math.nan,) * 4))


@pytest.mark.parametrize("found", [not_judged("nobody was set aside"), standing(UNMEASURED)])
def test_nothing_measured_is_not_judged(found: BaselineComparison) -> None:
    assert (found.mark, found.outcomes) == ("not judged", {})
    assert found.sentence.startswith("Not judged: ") and "Nothing is known of how it does" in found.sentence
    json.dumps(found.as_json(), allow_nan=False)
