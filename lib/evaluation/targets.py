"""Four sentences that summarise an evaluation: body MAE, PSNR and correlation, and tumour uptake."""

from __future__ import annotations

import math

from lib.metrics.criteria import METHOD_LABELS
from lib.metrics.verdict import Judgement, join_names

REFERENCE_BASELINE = "hu_median"  # the strongest baseline in MAE and PSNR on real studies
TUMOUR = "tumour_suv_mean_error"


def target_sentences(judgement: Judgement) -> tuple[str, ...]:
    """Return the summary: MAE and PSNR against the median lookup table, correlation, and tumour SUVmean error."""
    mae, baseline_mae = _means(judgement, "mae_suv_body")
    psnr, baseline_psnr = _means(judgement, "psnr_db_body")
    correlation = judgement.intervals["model"]["correlation_body"].mean
    if not math.isfinite(mae + baseline_mae) or not baseline_mae:
        return ("Body metrics are undefined: no voxel inside a body was measured.",)
    percent, decibels = 100 * (1 - mae / baseline_mae), psnr - baseline_psnr
    baseline = f"that of {METHOD_LABELS[REFERENCE_BASELINE]}"
    return (
        f"Body MAE is {abs(percent):.1f} % {'below' if percent > 0 else 'above'} {baseline}: {mae:.3f} against "
        f"{baseline_mae:.3f} SUV.",
        f"Body PSNR is {abs(decibels):.2f} dB {'above' if decibels > 0 else 'below'} {baseline}: {psnr:.2f} against "
        f"{baseline_psnr:.2f} dB."
        if math.isfinite(decibels)
        else "Body PSNR is undefined, because a PET has no error.",
        f"Body correlation is {correlation:.2f}."
        if math.isfinite(correlation)
        else "Body correlation is undefined, because a PET is constant.",
        _tumour_sentence(judgement),
    )


def _means(judgement: Judgement, metric: str) -> tuple[float, float]:
    model, baseline = (judgement.intervals[method][metric].mean for method in ("model", REFERENCE_BASELINE))
    return model, baseline


def _tumour_sentence(judgement: Judgement) -> str:
    found = judgement.intervals["model"][TUMOUR]
    if not found.count:
        return "Tumour SUVmean: no evaluated patient has a contoured tumour."
    differences = {name: judgement.against[name][TUMOUR].difference.mean for name in judgement.baselines}
    smaller = [f"{METHOD_LABELS[name]} (by {-by:.2f})" for name, by in differences.items() if by < 0]
    larger = [f"{METHOD_LABELS[name]} (by {by:.2f})" for name, by in differences.items() if by >= 0]
    clauses = [
        f"{how} than that of {join_names(names)}"
        for how, names in (("smaller", smaller), ("not smaller", larger))
        if names
    ]
    patients = "1 patient" if found.count == 1 else f"{found.count} patients"
    direction = "underestimated" if found.mean < 0 else "overestimated"
    return (
        f"Tumour SUVmean is {direction}: error {found.mean:+.2f} SUV on average over {patients}; its absolute value is "
        f"{', and '.join(clauses)}."
    )
