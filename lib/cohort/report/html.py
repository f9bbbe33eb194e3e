"""The HTML report of a cohort: one file, with its plots embedded and nothing fetched from the network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lib.cohort.manifest import DONE, FAILED, PENDING, RUNNING, UNUSABLE
from lib.cohort.report.plots import draw_steps, draw_studies, draw_voxels
from lib.cohort.settings import FOLDER
from lib.cohort.summary import COMPARED, CohortSummary
from lib.evaluation.report.images import LABEL
from lib.evaluation.report.page import draw_themed, load_template
from lib.files import write_text

REPORT_FILE = "report.html"
TEMPLATE = "cohort.html"
COMPARED_LABELS = {"mae_suv_body": "body MAE [SUV]", "psnr_db_body": "body PSNR [dB]", "ssim_body": "body SSIM"}


def write_report(summary: CohortSummary, out: Path) -> Path:
    """Write `report.html` into a cohort's folder, and return its path.

    Raises:
        OSError: It cannot be written.
    """
    counts, path = summary.counts, out / REPORT_FILE
    write_text(path, load_template(Path(__file__).parent, TEMPLATE).render(
        label=LABEL,
        identity=summary.identity,
        counts=counts,
        result=_result(summary),
        total=sum(counts.values()) - counts[UNUSABLE],
        colour="bad" if counts[FAILED] else "unsure" if counts[PENDING] + counts[RUNNING] else "good",
        rate="–" if summary.studies_per_hour is None else f"{summary.studies_per_hour:,.0f}",
        slices=sum(study["result"].get("slices", 0) for study in summary.done),
        retried=summary.retried,
        lost=summary.lost,
        stored_before=sum(bool(study["result"].get("already_stored")) for study in summary.done),
        failures=summary.failures,
        runs=summary.runs,
        plots=draw_themed(lambda: _plots(summary)),
        scanners=[_scanner_row(one) for one in summary.by_scanner()],
        compared=[COMPARED_LABELS[name] for name in COMPARED],
        slowest=summary.slowest(),
        cases=[_case_row(study, summary.identity) for study in summary.studies if study["chosen"]],
    ))  # fmt: skip
    return path


def _result(summary: CohortSummary) -> str:
    """Return in a few words how far the cohort is."""
    counts = summary.counts
    total, pending = sum(counts.values()) - counts[UNUSABLE], counts[PENDING] + counts[RUNNING]
    if pending:
        return f"Unfinished: {counts[DONE]} of {total} CTs have a synthetic PET, {counts[FAILED]} failed"
    if counts[FAILED]:
        return f"{counts[FAILED]} of {total} CTs failed, the others have a synthetic PET"
    return "Every CT has a synthetic PET" if total else "No CT was found that can be used"


def _plots(summary: CohortSummary) -> dict[str, bytes]:
    plots = {}
    if any(summary.histogram()):
        plots["voxels"] = draw_voxels(summary.histogram())
        plots["studies"] = draw_studies(summary.suv("mean"), summary.suv("max"))
    if steps := summary.step_seconds():
        plots["steps"] = draw_steps(steps)
    return plots


def _scanner_row(one: Any) -> dict[str, Any]:
    return {
        "scanner": one.scanner,
        "studies": one.studies,
        "cells": [(_number(one.mean[name]), _number(one.hu_median[name])) for name in COMPARED],
    }


def _case_row(study: Mapping[str, Any], identity: Mapping[str, str]) -> dict[str, Any]:
    """Return one row of the table of cases: the CT, its state, and the link to the series."""
    result = study["result"]
    is_here = study["state"] == DONE and identity["destination"] == FOLDER
    model = result.get("metrics", {}).get("model", {})
    return {
        "ct_uid": study["ct_uid"],
        "state": study["state"],
        "link": f"{quote(result['output'])}/" if is_here else "",
        "series_uid": result.get("series_uid", ""),
        "slices": result.get("slices", ""),
        "suv": f"{result['suv']['mean']:.2f} / {result['suv']['max']:.1f}" if result.get("suv") else "–",
        "mae": _number(model.get("mae_suv_body")),
        "side": result.get("side", ""),
        "familiarity": result.get("familiarity", ""),
        "attempts": study["attempts"],
        "losses": study["losses"],
        "seconds": f"{sum(study['seconds'].values()):.1f}" if study["seconds"] else "–",
        "worker": study["worker"],
        "reason": study["reason"] or result.get("warning", ""),
    }


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
