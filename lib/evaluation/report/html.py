"""One page that a person understands in a minute: does the model beat the trivial, and what does its PET look like?

The page is one file: pictures are in it, nothing is fetched from anywhere.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from lib.evaluation.aligned_patients import alignment_sentence
from lib.evaluation.calibration_check import trust_sentence
from lib.evaluation.clinical_metrics import REAL
from lib.evaluation.paired_comparison import beside_sentence
from lib.evaluation.patient_result import PatientResult
from lib.evaluation.report.images import LABEL
from lib.evaluation.report.plots import (
    LEFT,
    draw_agreement,
    draw_history,
    draw_joint,
    draw_level,
    draw_methods,
    draw_trust,
)
from lib.evaluation.report.tables import beside_table, comparison_table, people_beside
from lib.evaluation.result import Evaluation
from lib.files import write_text
from lib.learning.model_card.card import ModelCard
from lib.learning.model_card.facts import card_facts
from lib.learning.tracking.progress import read_history
from lib.metrics.agreement import FEW_PATIENTS, finite_mean
from lib.metrics.criteria import KEY_MEASURE, METHODS, WORDS
from lib.metrics.image import library_versions
from lib.metrics.verdict import Judgement, listed, verdict_sentence

REPORT_FILE = "report.html"
TEMPLATE = Path(__file__).with_name("report.html")
MAX_PICTURED = 24  # pairs whose pictures are put into the page; it grows by about a megabyte each
BODY = ("mae_suv_body", "psnr_db_body", "ssim_body", "correlation_body", "bias_suv_body")
READER = (
    "tumour_suv_mean_error", "tumour_suv_max_error", "tumour_suv_peak_error",
    "hot_sensitivity", "hot_false_share", "hot_overlap",
)  # fmt: skip
BODY_3D = (
    "ssim_body_3d", "ms_ssim_body_3d", "mae_suv_body_3d", "psnr_db_body_3d", "mse_body_3d", "ssim_3d", "ms_ssim_3d",
)  # fmt: skip
MORE_BODY = ("mse_body", "ms_ssim_body", "vif_body")
ELSEWHERE = {
    "psnr_db_body": "PSNR", "ssim_body": "SSIM", "correlation_body": "correlation",
    "tumour_suv_mean_error": "SUVmean of tumours",
}  # fmt: skip
SLICE = ("mae_suv", "psnr_db", "ssim", "ms_ssim", "vif", "mse")


def write_report(
    evaluation: Evaluation, card: ModelCard, out: Path, *, run: Path | None = None, note: str = ""
) -> Path:
    """Write `report.html` beside the pictures of an evaluation, and return its path.

    Args:
        evaluation: Its pictures lie in `out`.
        card: Of the model.
        out: Folder of the evaluation.
        run: Folder of the model's training run, for its curve; none when not given.
        note: Whose the data are.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    judgement = evaluation.judgement
    path = out / REPORT_FILE
    write_text(path, page.render(
        label=LABEL,
        evaluation=evaluation,
        card=card,
        note=note,
        sentence=verdict_sentence(judgement),
        elsewhere=_elsewhere(judgement),
        colour=_colour(judgement),
        chips=[(name, judgement.against[name][KEY_MEASURE].outcome, WORDS[name]) for name in METHODS[1:]],
        patients=judgement.patients,
        is_few=judgement.patients < FEW_PATIENTS,
        body=comparison_table(judgement, BODY),
        reader=comparison_table(judgement, READER),
        hu_share=_share(judgement.hu_share.mean),
        real_share=_share(_mean_real_share(evaluation)),
        tumours=len({pair.patient_id for pair in evaluation.judged if pair.reading.tumour}),
        beside=[(beside_sentence(beside), beside_table(beside)) for beside in evaluation.beside],
        people_beside=people_beside(evaluation.patients),
        absent=[(p.patient_id, reason) for p in evaluation.patients for reason in p.absent_peers.values()],
        level=_level_sentence(judgement),
        in_3d=comparison_table(judgement, BODY_3D),
        more=comparison_table(judgement, MORE_BODY),
        whole=comparison_table(judgement, SLICE),
        people=[_person(pair) for pair in evaluation.patients],
        alignment=alignment_sentence(evaluation.aligned, evaluation.mean("model")),
        aligned=_with_and_without(evaluation),
        trust=trust_sentence(evaluation.trust()),
        plots=_plots(evaluation, card, run),
        pictures=_pictures(evaluation, out),
        unpictured=max(0, len(evaluation.patients) - MAX_PICTURED),
        facts=card_facts(card) | {"SHA-256": evaluation.checksum},
        recipe=json.dumps(dataclasses.asdict(card.recipe), indent=1),
        versions=library_versions() | dict(card.versions),
    ))  # fmt: skip
    return path


def _colour(judgement: Judgement) -> str:
    if judgement.outcomes(KEY_MEASURE, "not beaten") or not judgement.outcomes(KEY_MEASURE, "beaten"):
        return "bad"
    return "unsure" if judgement.outcomes(KEY_MEASURE, "unsure") else "good"


def _elsewhere(judgement: Judgement) -> str:
    """Return in one sentence how the model does in the other measures a reader asks for, tumours among them."""
    told = []
    for name, words in ELSEWHERE.items():
        lost, unsure, beaten = (judgement.outcomes(name, outcome) for outcome in ("not beaten", "unsure", "beaten"))
        clauses = [f"does not beat {listed(lost)}"] if lost else []
        clauses += [f"is not surely ahead of {listed(unsure)}"] if unsure else []
        if clauses or beaten:
            told.append(f"{words} {', '.join(clauses) or 'beats all of them'}")
    return f"In other measures: {'; '.join(told)}." if told else ""


def _level_sentence(judgement: Judgement) -> str:
    whole, left = (judgement.intervals["model"][name].mean for name in (KEY_MEASURE, LEFT))
    if not math.isfinite(whole + left) or not whole:
        return "No error of the model's level can be told."
    return (
        f"Were each patient's synthetic PET multiplied by the one factor that suits it best, {left:.3f} of the model's "
        f"{whole:.3f} SUV would be left: {100 * (1 - left / whole):.0f} % of its error is a patient's overall level of "
        "uptake, which a CT hardly tells; the rest is where the uptake lies."
    )


def _person(pair: PatientResult) -> dict[str, Any]:
    """Return one line of the patients' table."""
    reading, model = pair.reading, pair.comparison.figures["model"]
    strongest = min(METHODS[1:], key=lambda name: _or_infinite(pair.comparison.figures[name].mae_suv_body))
    real, drawn = (reading.tumour[name] if reading.tumour else None for name in (REAL, "model"))
    hot = reading.hot["model"]

    def both(name: str) -> str:
        """Return a tumour's synthetic and real value."""
        return f"{getattr(drawn, name):.2f} / {getattr(real, name):.2f}" if real and drawn else "–"

    return {
        "patient_id": pair.patient_id,
        "seen": pair.seen,
        "mae": _number(model.mae_suv_body),
        "strongest": f"{_number(pair.comparison.figures[strongest].mae_suv_body)} {strongest}",
        "is_better": model.mae_suv_body < _or_infinite(pair.comparison.figures[strongest].mae_suv_body),
        "psnr": _number(model.psnr_db_body, 1),
        "correlation": _number(model.correlation_body, 2),
        "level": f"{reading.body_mean_suv['model']:.2f} / {reading.body_mean_suv[REAL]:.2f}",
        "limits": f"{_number(reading.voxels.low, 2)} to {_number(reading.voxels.high, 2)}",
        "volume_ml": f"{real.volume_ml:.0f}" if real else "–",
        "tumour": [both(name) for name in ("suv_mean", "suv_max", "suv_peak")],
        "hot": f"{_share(hot.sensitivity)} / {_share(hot.false_share)}",
        "tumour_note": reading.tumour_note,
        "shift": pair.shift.in_words(),
        "shift_note": pair.shift.note,
    }


def _with_and_without(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """Return (method, body MAE over all, body MAE without misaligned pairs); none where there are none."""
    aligned = evaluation.aligned
    if not aligned.left_out or not aligned.means:
        return []
    return [
        (name, _number(evaluation.mean(name).mae_suv_body), _number(aligned.means[name].mae_suv_body))
        for name in METHODS
    ]


def _plots(evaluation: Evaluation, card: ModelCard, run: Path | None) -> dict[str, str]:
    levels = [pair.reading.body_mean_suv for pair in evaluation.judged]
    real, drawn = (np.array([level[name] for level in levels]) for name in (REAL, "model"))
    names = [pair.patient_id for pair in evaluation.judged]
    joint = np.sum([pair.reading.joint for pair in evaluation.judged], axis=0)
    plots = {
        "methods": draw_methods(evaluation.judgement),
        "agreement": draw_agreement(real, drawn, names, evaluation.body_level()),
        "joint": draw_joint(joint),
        "level": draw_level(evaluation.judgement),
    }
    if (trust := evaluation.trust()) is not None:
        plots["trust"] = draw_trust([pair.trust for pair in evaluation.judged if pair.trust is not None], trust)
    history = read_history(run) if run is not None else ()
    if history:
        plots["history"] = draw_history(history, kept_epoch=card.epoch)
    return {name: _embedded(png) for name, png in plots.items()}


def _pictures(evaluation: Evaluation, out: Path) -> list[tuple[str, str, list[str]]]:
    """Return (patient, seen, pictures) of the pairs shown: those never seen first, the largest error on top."""
    by_error = sorted(
        evaluation.patients,
        key=lambda pair: (pair.side.shaped_weights, -np.nan_to_num(pair.comparison.figures["model"].mae_suv_body)),
    )
    return [
        (pair.patient_id, pair.seen, [_embedded((out / name).read_bytes()) for name in pair.pictures])
        for pair in by_error[:MAX_PICTURED]
    ]


def _mean_real_share(evaluation: Evaluation) -> float:
    return finite_mean(pair.reading.hu_share[REAL] for pair in evaluation.judged)


def _embedded(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def _share(value: float) -> str:
    return f"{100 * value:.0f} %" if math.isfinite(value) else "–"


def _or_infinite(value: float) -> float:
    return value if math.isfinite(value) else math.inf
