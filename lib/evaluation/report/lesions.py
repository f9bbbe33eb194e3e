"""The report's sections on lesions and on what a reader sees at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lib.evaluation.lesions.components import MIN_LESION_ML, Lesion
from lib.evaluation.lesions.detection import CurvePoint
from lib.evaluation.patient_result import PatientResult
from lib.evaluation.report.page import INK, MODEL_COLOUR, OTHER_COLOUR
from lib.evaluation.report.plots import new_figure, to_png
from lib.evaluation.report.tables import comparison_table, means_table
from lib.evaluation.result import Evaluation
from lib.metrics.caveats import MAX_ROUGHNESS_RATIO
from lib.metrics.criteria import LESION_METRICS, METHOD_LABELS
from lib.metrics.uptake import HOT_SUV
from lib.metrics.verdict import Judgement

PROJECTIONS = ("mip_correlation", "mip_mae_suv")
SLICES_AND_VOLUME = ("roughness_ratio", "hot_found_ml", "hot_missed_ml", "hot_false_ml")
LINES = ("--", ":", "-.")  # of methods other than the model


def lesion_section(evaluation: Evaluation) -> dict[str, Any]:
    """Return the tables and sentences of the two sections."""
    judgement, sentences = evaluation.judgement, evaluation.lesions.sentences
    tables = {
        definition: means_table(judgement, [m.name for m in LESION_METRICS if f"_{definition}" in m.name])
        for definition in sentences
    }
    return {
        "projections": comparison_table(judgement, PROJECTIONS),
        "slices_and_volume": means_table(judgement, SLICES_AND_VOLUME),
        "appearance_sentence": appearance_sentence(judgement),
        "max_roughness": f"{MAX_ROUGHNESS_RATIO:g}",
        "min_ml": f"{MIN_LESION_ML:g}",
        **tables,
        **{f"{definition}_sentence": sentence for definition, sentence in sentences.items()},
        "patients": [_patient_row(pair) for pair in evaluation.patients],
    }


def appearance_sentence(judgement: Judgement) -> str:
    """Return how the model's projections, slices and hot volume compare with the real ones, as text."""
    names = ("mip_correlation", *SLICES_AND_VOLUME)
    correlation, roughness, found, missed, false = (judgement.intervals["model"][name].mean for name in names)
    clauses = [
        f"its projections correlate with the real ones by {correlation:.2f}" if math.isfinite(correlation) else "",
        f"from slice to slice it is {roughness:.2f} times as rough" if math.isfinite(roughness) else "",
        f"it shows {found + false:.0f} mL above SUV 2.5, of which {false:.0f} mL are false, while the real PET has "
        f"{found + missed:.0f} mL"
        if math.isfinite(found)
        else "",
    ]
    stated = "; ".join(filter(None, clauses))
    return f"The synthetic PET, mean over patients: {stated}." if stated else ""


def draw_free_response(curves: Mapping[str, Sequence[CurvePoint]]) -> bytes:
    """Plot sensitivity against fabricated lesions per patient, of the model and of other methods."""
    figure, axis = new_figure(4.3, 3.5)
    others = [name for name in curves if name != "model"]
    for name, curve in curves.items():
        is_model = name == "model"
        x, y = ([getattr(point, value) for point in curve] for value in ("fabricated_per_patient", "sensitivity"))
        axis.plot(
            x, y, "-o" if is_model else LINES[others.index(name) % len(LINES)], label=METHOD_LABELS.get(name, name),
            markersize=3.5, color=MODEL_COLOUR if is_model else OTHER_COLOUR, linewidth=2 if is_model else 1.5,
        )  # fmt: skip
        for point in curve:
            if point.threshold_suv == HOT_SUV and is_model:
                axis.plot(
                    [point.fabricated_per_patient], [point.sensitivity], "o", color=INK, markersize=10,
                    markerfacecolor="none",
                )  # fmt: skip
    axis.set_xlim(left=-0.04 * axis.get_xlim()[1])  # so that points at 0 are not hidden by the axis
    axis.set_ylim(0, 1.02)
    axis.set_xlabel("fabricated lesions per patient")
    axis.set_ylabel("share of the real lesions found")
    axis.grid(alpha=0.2)
    axis.legend(fontsize=8, frameon=False)
    return to_png(figure)


def _patient_row(pair: PatientResult) -> dict[str, str]:
    """Return one row of the patients' table."""
    fixed, appearance = pair.lesions["model"].fixed, pair.appearance["model"]
    return {
        "patient_id": pair.patient_id,
        "seen": pair.seen,
        "real": str(len(fixed.found) + len(fixed.missed)),
        "found": str(len(fixed.found)),
        "missed": str(len(fixed.missed)),
        "fabricated": str(len(fixed.fabricated)),
        "largest_missed": _largest(fixed.missed),
        "largest_fabricated": _largest(fixed.fabricated),
        "projection": _number(appearance.mip_correlation),
        "roughness": _number(appearance.roughness_ratio),
        "hot_ml": " / ".join(
            f"{appearance.hot_found_ml + other:.0f}" for other in (appearance.hot_false_ml, appearance.hot_missed_ml)
        ),
    }


def _largest(lesions: Sequence[Lesion]) -> str:
    if not lesions:
        return "–"
    largest = max(lesions, key=lambda lesion: lesion.volume_ml)
    return f"{largest.volume_ml:.1f} mL, {largest.suv_max:.1f}"


def _number(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "–"
