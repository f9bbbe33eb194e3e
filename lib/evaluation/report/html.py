"""The HTML report of an evaluation: the comparison with baselines, tables, plots and images.

The report is one file: images are embedded, and nothing is fetched from the network.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from lib.evaluation.aligned_patients import alignment_sentence
from lib.evaluation.calibration_check import calibration_sentence
from lib.evaluation.clinical_metrics import REAL
from lib.evaluation.interval_coverage import coverage_cells, coverage_sentence
from lib.evaluation.paired_comparison import external_sentence
from lib.evaluation.patient_result import PatientResult
from lib.evaluation.report.images import LABEL
from lib.evaluation.report.lesions import draw_free_response, lesion_section
from lib.evaluation.report.organs import organ_section
from lib.evaluation.report.page import draw_themed, embed, load_template
from lib.evaluation.report.plots import (
    RESCALED_METRIC,
    draw_agreement,
    draw_calibration,
    draw_history,
    draw_joint,
    draw_level,
    draw_methods,
)
from lib.evaluation.report.tables import comparison_table, external_patient_table, external_table
from lib.evaluation.result import Evaluation
from lib.files import write_text
from lib.learning.model_card.card import ModelCard
from lib.learning.model_card.facts import card_facts
from lib.learning.tracking.progress import read_histories
from lib.metrics.agreement import FEW_PATIENTS, finite_mean
from lib.metrics.conformal.band import LEVELS
from lib.metrics.criteria import KEY_METRIC, METHOD_LABELS, METHODS
from lib.metrics.image import library_versions
from lib.metrics.verdict import Judgement, name_baselines, verdict_sentence

REPORT_FILE = "report.html"
TEMPLATES = Path(__file__).parent
MAX_PICTURED = 24  # pairs whose images are embedded, about a megabyte each
BODY = ("mae_suv_body", "psnr_db_body", "ssim_body", "correlation_body", "bias_suv_body")
CLINICAL = (
    "tumour_suv_mean_error", "tumour_suv_max_error", "tumour_suv_peak_error",
    "hot_sensitivity", "hot_false_share", "hot_overlap",
)  # fmt: skip
BODY_3D = (
    "ssim_body_3d", "ms_ssim_body_3d", "mae_suv_body_3d", "psnr_db_body_3d", "mse_body_3d", "ssim_3d", "ms_ssim_3d",
)  # fmt: skip
MORE_BODY = ("mse_body", "ms_ssim_body", "vif_body")
SUMMARY_LABELS = {
    "psnr_db_body": "body PSNR", "ssim_body": "body SSIM", "correlation_body": "body correlation",
    "tumour_suv_mean_error": "tumour SUVmean",
}  # fmt: skip
SLICE = ("mae_suv", "psnr_db", "ssim", "ms_ssim", "vif", "mse")


def write_report(
    evaluation: Evaluation, card: ModelCard, out: Path, *, run: Path | None = None, note: str = ""
) -> Path:
    """Write `report.html` next to the images of an evaluation, and return its path.

    Args:
        evaluation: The result; its images are in `out`.
        card: Of the model.
        out: Folder of the evaluation.
        run: Folder of the model's training run, for the training curve.
        note: Line at the end, such as the data's attribution.
    """
    page = load_template(TEMPLATES, REPORT_FILE)
    judgement = evaluation.judgement
    path = out / REPORT_FILE
    write_text(path, page.render(
        label=LABEL,
        evaluation=evaluation,
        card=card,
        note=note,
        verdict=_verdict(evaluation),
        other_metrics=_other_metrics_sentence(judgement),
        colour=_colour(judgement),
        chips=[(name, row[KEY_METRIC].outcome, METHOD_LABELS[name]) for name, row in judgement.against.items()],
        patients=judgement.patients,
        unseen=_unseen(judgement),
        is_few=judgement.patients < FEW_PATIENTS,
        body=comparison_table(judgement, BODY),
        clinical=comparison_table(judgement, CLINICAL),
        lesions=lesion_section(evaluation),
        hu_share=_share(judgement.hu_share.mean),
        real_share=_share(_mean_real_share(evaluation)),
        tumours=len({pair.patient_id for pair in evaluation.judged if pair.clinical.tumour}),
        external=[(external_sentence(other), external_table(other)) for other in evaluation.external_comparisons],
        external_patient_table=external_patient_table(evaluation.patients),
        missing_external=_missing_external(evaluation),
        organs=organ_section(evaluation),
        level=_level_sentence(judgement),
        in_3d=comparison_table(judgement, BODY_3D),
        more=comparison_table(judgement, MORE_BODY),
        full_slice=comparison_table(judgement, SLICE),
        patient_rows=[_patient_row(pair) for pair in evaluation.patients],
        alignment=alignment_sentence(evaluation.aligned, evaluation.mean("model")),
        aligned=_alignment_rows(evaluation),
        calibration=calibration_sentence(evaluation.calibration_check),
        coverage=coverage_sentence(evaluation.interval_coverage, card),
        coverage_rows=coverage_cells(evaluation.interval_coverage),
        coverage_levels=[f"{100 * level:g}\u00a0%" for level in LEVELS],
        plots=draw_themed(lambda: _plots(evaluation, card, run)),
        history=_history_caption(card),
        images=_images(evaluation, out),
        not_shown=max(0, len(evaluation.patients) - MAX_PICTURED),
        facts=card_facts(card) | {"SHA-256": evaluation.checksum},
        recipe=json.dumps(dataclasses.asdict(card.recipe), indent=1),
        versions=library_versions() | dict(card.versions),
    ))  # fmt: skip
    return path


def _verdict(evaluation: Evaluation) -> tuple[str, str]:
    """Return the first sentence of the verdict, without its full stop, and the others."""
    text = " ".join(filter(None, (verdict_sentence(evaluation.judgement), evaluation.out_of_fold)))
    result, _, numbers = text.partition(". ")
    return result.removesuffix("."), numbers


def _colour(judgement: Judgement) -> str:
    if judgement.outcomes(KEY_METRIC, "not beaten") or not judgement.outcomes(KEY_METRIC, "beaten"):
        return "bad"
    return "unsure" if judgement.outcomes(KEY_METRIC, "unsure") or judgement.caveats else "good"


def _unseen(judgement: Judgement) -> str:
    """Return in what sense the model has not seen the patients of the means."""
    if not judgement.out_of_fold:
        return "not seen in training or validation"
    return "predicted by networks that were not trained on them"


def _history_caption(card: ModelCard) -> str:
    members = card.network.members
    if members > 1:
        return f"Training loss of each of the {members} networks over the epochs."
    return "Training loss and validation error over the epochs."


def _other_metrics_sentence(judgement: Judgement) -> str:
    """Return one sentence that compares the model with the baselines in further metrics, such as tumour uptake."""
    results = []
    for name, label in SUMMARY_LABELS.items():
        lost, unsure, beaten = (judgement.outcomes(name, outcome) for outcome in ("not beaten", "unsure", "beaten"))
        everything = judgement.all_baselines
        clauses = [f"not better than {name_baselines(judgement, lost, 'any baseline')}"] if lost else []
        clauses += [f"not significantly better than {name_baselines(judgement, unsure, everything)}"] if unsure else []
        if clauses or beaten:
            results.append(f"{label}: {', '.join(clauses) or f'better than {everything}'}")
    return f"Other metrics – {'; '.join(results)}." if results else ""


def _level_sentence(judgement: Judgement) -> str:
    error, rescaled = (judgement.intervals["model"][name].mean for name in (KEY_METRIC, RESCALED_METRIC))
    if not math.isfinite(error + rescaled) or not error:
        return "The effect of rescaling is undefined."
    return (
        f"Error before and after each patient's synthetic PET is multiplied by its optimal factor. For the model, "
        f"{rescaled:.3f} of {error:.3f} SUV remain: {100 * (1 - rescaled / error):.0f} % of its error is the patient's "
        "overall level of uptake, which a CT hardly shows; the rest is the distribution of the uptake."
    )


def _patient_row(pair: PatientResult) -> dict[str, Any]:
    """Return one row of the patients' table."""
    clinical, model = pair.clinical, pair.comparison.metrics["model"]
    strongest = min(pair.methods[1:], key=lambda name: _or_infinite(pair.comparison.metrics[name].mae_suv_body))
    real, synthetic = (clinical.tumour[name] if clinical.tumour else None for name in (REAL, "model"))
    hot = clinical.hot["model"]

    def tumour_values(name: str) -> str:
        """Return a tumour's synthetic and real value."""
        return f"{getattr(synthetic, name):.2f} / {getattr(real, name):.2f}" if real and synthetic else "–"

    return {
        "patient_id": pair.patient_id,
        "seen": pair.seen,
        "mae": _number(model.mae_suv_body),
        "strongest": f"{_number(pair.comparison.metrics[strongest].mae_suv_body)} {METHOD_LABELS[strongest]}",
        "is_better": model.mae_suv_body < _or_infinite(pair.comparison.metrics[strongest].mae_suv_body),
        "psnr": _number(model.psnr_db_body, 1),
        "correlation": _number(model.correlation_body, 2),
        "level": f"{clinical.body_mean_suv['model']:.2f} / {clinical.body_mean_suv[REAL]:.2f}",
        "limits": f"{_number(clinical.voxels.low, 2)} to {_number(clinical.voxels.high, 2)}",
        "volume_ml": f"{real.volume_ml:.0f}" if real else "–",
        "tumour": [tumour_values(name) for name in ("suv_mean", "suv_max", "suv_peak")],
        "hot": f"{_share(hot.sensitivity)} / {_share(hot.false_share)}",
        "tumour_note": clinical.tumour_note,
        "shift": ", ".join(part.replace(" ", "\u00a0") for part in pair.shift.in_words().split(", ")),
        "shift_note": pair.shift.note,
    }


def _alignment_rows(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """Return (method, body MAE over all, body MAE without misaligned pairs); an empty list without misaligned pairs."""
    aligned = evaluation.aligned
    if not aligned.excluded or not aligned.means:
        return []
    return [
        (METHOD_LABELS[name], _number(evaluation.mean(name).mae_suv_body), _number(aligned.means[name].mae_suv_body))
        for name in METHODS
    ]


def _plots(evaluation: Evaluation, card: ModelCard, run: Path | None) -> dict[str, bytes]:
    levels = [pair.clinical.body_mean_suv for pair in evaluation.judged]
    real, synthetic = (np.array([level[name] for level in levels]) for name in (REAL, "model"))
    names = [pair.patient_id for pair in evaluation.judged]
    joint = np.sum([pair.clinical.joint for pair in evaluation.judged], axis=0)
    plots = {
        "methods": draw_methods(evaluation.judgement),
        "agreement": draw_agreement(real, synthetic, names, evaluation.body_level()),
        "joint": draw_joint(joint),
        "level": draw_level(evaluation.judgement),
        "free_response": draw_free_response(evaluation.lesions.curves),
    }
    if evaluation.calibration_check is not None:
        checks = [pair.calibration_check for pair in evaluation.judged if pair.calibration_check is not None]
        plots["calibration"] = draw_calibration(checks, evaluation.calibration_check)
    histories = read_histories(run) if run is not None else ()
    if histories:
        plots["history"] = draw_history(histories, kept_epoch=card.epoch)
    return plots


def _images(evaluation: Evaluation, out: Path) -> list[tuple[str, str, list[str]]]:
    """Return (patient, side, images) of the pairs shown: unseen patients first, by decreasing error."""
    by_error = sorted(
        evaluation.patients,
        key=lambda pair: (pair.side.shaped_weights, -np.nan_to_num(pair.comparison.metrics["model"].mae_suv_body)),
    )
    return [
        (pair.patient_id, pair.seen, [embed((out / name).read_bytes()) for name in pair.pictures])
        for pair in by_error[:MAX_PICTURED]
    ]


def _missing_external(evaluation: Evaluation) -> list[tuple[str, str]]:
    return [(pair.patient_id, reason) for pair in evaluation.patients for reason in pair.missing_external.values()]


def _mean_real_share(evaluation: Evaluation) -> float:
    return finite_mean(pair.clinical.hu_share[REAL] for pair in evaluation.judged)


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def _share(value: float) -> str:
    return f"{100 * value:.0f} %" if math.isfinite(value) else "–"


def _or_infinite(value: float) -> float:
    return value if math.isfinite(value) else math.inf
