"""The four summary sentences of an evaluation, on values with a known result."""

from __future__ import annotations

import math

import pytest

from lib.evaluation.targets import target_sentences
from lib.metrics.criteria import HU_SHARE, METHODS, METRICS
from lib.metrics.verdict import judge_patients

NAMES = (*(metric.name for metric in METRICS), HU_SHARE)


def sentences(**rows: list[float]) -> tuple[str, ...]:
    """Return the sentences for each metric's values in the order of METHODS, the same for two patients."""
    metrics = {method: dict.fromkeys(NAMES, math.nan) for method in METHODS}
    for metric, values in rows.items():
        for method, value in zip(METHODS, values, strict=True):
            metrics[method][metric] = value
    return target_sentences(judge_patients([("P1", metrics), ("P2", metrics)]))


#      model zero constant hu_mean hu_median
MAE = [0.45, 1.0, 0.7, 0.65, 0.5]
PSNR = [21.25, 18.0, 19.0, 19.5, 20.0]
CORRELATION = [0.61, math.nan, math.nan, 0.4, 0.35]
TUMOUR = [-3.0, -6.0, -5.0, 2.5, -4.0]


def test_the_sentences_of_a_good_model() -> None:
    result = sentences(mae_suv_body=MAE, psnr_db_body=PSNR, correlation_body=CORRELATION, tumour_suv_mean_error=TUMOUR)
    assert result == (
        "Body MAE is 10.0 % below that of median SUV per HU: 0.450 against 0.500 SUV.",
        "Body PSNR is 1.25 dB above that of median SUV per HU: 21.25 against 20.00 dB.",
        "Body correlation is 0.61.",
        "Tumour SUVmean is underestimated: error -3.00 SUV on average over 2 patients; its absolute value is smaller "
        "than that of zero uptake (by 3.00), constant SUV (by 2.00) and median SUV per HU (by 1.00), and not smaller "
        "than that of mean SUV per HU (by 0.50).",
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            {"mae_suv_body": [0.6, 1, 1, 1, 0.5], "psnr_db_body": [19.5, 0, 0, 0, 20]},
            "20.0 % above that of median SUV per HU",
        ),
        (
            {"mae_suv_body": [0.6, 1, 1, 1, 0.5], "psnr_db_body": [19.5, 0, 0, 0, 20]},
            "0.50 dB below that of median SUV per HU",
        ),
        (
            {"mae_suv_body": MAE, "psnr_db_body": [math.inf, 0, 0, 0, 20]},
            "Body PSNR is undefined, because",
        ),
        ({"mae_suv_body": MAE}, "Body correlation is undefined, because a PET is constant."),
        ({"mae_suv_body": MAE}, "Tumour SUVmean: no evaluated patient has a contoured tumour."),
        ({}, "no voxel inside a body was measured"),
    ],
)
def test_the_sentences_of_other_cases(rows: dict[str, list[float]], message: str) -> None:
    assert message in " ".join(sentences(**rows))
