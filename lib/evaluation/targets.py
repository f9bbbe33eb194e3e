"""The four questions people ask first, answered in plain sentences."""

from __future__ import annotations

import math

from lib.metrics.baselines import BASELINE_NAMES
from lib.metrics.verdict import Judgement

RIVAL = "hu_median"  # the strongest trivial predictor in MAE and PSNR on real studies
TUMOUR = "tumour_suv_mean_error"


def target_sentences(judgement: Judgement) -> tuple[str, ...]:
    """Return how the model does against the median lookup in MAE and PSNR, in correlation, and in the tumours."""
    mae, rival_mae = _means(judgement, "mae_suv_body")
    psnr, rival_psnr = _means(judgement, "psnr_db_body")
    correlation = judgement.intervals["model"]["correlation_body"].mean
    if not math.isfinite(mae + rival_mae) or not rival_mae:
        return ("Nothing can be said of the body: no voxel inside one was measured.",)
    percent, decibels = 100 * (1 - mae / rival_mae), psnr - rival_psnr
    return (
        f"Body MAE: {mae:.3f} SUV, {abs(percent):.1f} % {'below' if percent > 0 else 'above'} {RIVAL}'s "
        f"{rival_mae:.3f}.",
        f"Body PSNR: {psnr:.2f} dB, {abs(decibels):.2f} dB {'above' if decibels > 0 else 'below'} {RIVAL}'s "
        f"{rival_psnr:.2f}."
        if math.isfinite(decibels)
        else "Body PSNR: not defined, a PET is drawn without any error.",
        f"Correlation inside the body: {correlation:.2f}."
        if math.isfinite(correlation)
        else "Correlation inside the body: not defined, a PET is flat.",
        _of_tumours(judgement),
    )


def _means(judgement: Judgement, measure: str) -> tuple[float, float]:
    model, rival = (judgement.intervals[method][measure].mean for method in ("model", RIVAL))
    return model, rival


def _of_tumours(judgement: Judgement) -> str:
    found = judgement.intervals["model"][TUMOUR]
    if not found.count:
        return "Tumour SUVmean error: no patient judged has a drawn tumour."
    differences = {name: judgement.against[name][TUMOUR].difference.mean for name in BASELINE_NAMES}
    smaller = [f"{name}'s by {-by:.2f}" for name, by in differences.items() if by < 0]
    larger = [f"{name}'s by {by:.2f}" for name, by in differences.items() if by >= 0]
    told = [
        f"{words} than {', '.join(names)}" for words, names in (("smaller", smaller), ("not smaller", larger)) if names
    ]
    patients = "1 patient" if found.count == 1 else f"{found.count} patients"
    return f"Tumour SUVmean error: {found.mean:+.2f} SUV on average of {patients}; in size {'; '.join(told)}."
